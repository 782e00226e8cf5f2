import csv
from pathlib import Path

import numpy as np
import pytest

from node.intake.received import read_received
from node.intake.routing import RoutedBundle, RouteReason, route
from schemas.bundle import Population
from schemas.codes import DistanceBasis
from schemas.errors import PixelDataError
from schemas.preprocessing import PROFILES
from tests.pixels.films import shown_by_dcmtk
from tests.real.radiography import EXPECTED, FOLDER
from workers.pixels import read_header, read_pixels
from workers.placement import Placement
from workers.spacing import image_spacing

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the real files are not at hand ({FOLDER})")


def test_the_table_names_every_radiography_file() -> None:
    with (FOLDER / "index.csv").open(encoding="utf-8", newline="") as stream:
        files = {row["file"] for row in csv.DictReader(stream) if row["category"] == "radiography"}
    assert files == set(EXPECTED)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file", EXPECTED)
def test_each_file_is_routed_and_read_as_expected(file: str) -> None:
    expected = EXPECTED[file]
    received = read_received(FOLDER / file)
    bundle = RoutedBundle("digest", "model", Population(minimum_age_years=18))
    decision = route(received.header, [bundle], has_pixel_data=received.has_pixel_data)
    assert decision.reason is expected.reason, decision.explanation
    if not expected.readable:
        with pytest.raises(PixelDataError, match="sender"):
            read_pixels(FOLDER / file)
        return
    pixels = read_pixels(FOLDER / file)
    assert pixels.dtype == np.float32
    assert pixels.shape == (received.header.Rows, received.header.Columns)
    assert 0 <= pixels.min() < pixels.max() <= 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "file", [file for file, e in EXPECTED.items() if e.readable and e.reason is RouteReason.SELECTED]
)
def test_lungs_are_darker_than_mediastinum_and_abdomen(file: str) -> None:
    pixels = read_pixels(FOLDER / file)
    rows, columns = pixels.shape
    film = Placement.of(rows, columns, PROFILES["letterbox"].model_copy(update={"size": 256})).apply(pixels)
    right_lung, spine, abdomen = film[80:130, 50:90], film[80:160, 115:135], film[225:245, 60:110]
    assert right_lung.mean() < spine.mean() - 0.05
    assert right_lung.mean() < abdomen.mean() - 0.05


@pytest.mark.parametrize(
    ("file", "basis", "row_mm"),
    [
        # Pixel Spacing equals Imager Pixel Spacing: not corrected.
        ("pylibjpeg-data/966_fixed.dcm", DistanceBasis.DETECTOR_PLANE, 0.16),
        # Pixel Spacing 0.000\0.000.
        ("pydicom-data/RG1_J2KI.dcm", DistanceBasis.NONE, 0.0),
        ("dwv/gdcm-CR-MONO1-10-chest.dcm", DistanceBasis.NONE, 0.0),
        # The test pattern whose own text says which of its four spacings is right.
        ("DICOMSamples/MG_Explicit_Little.dcm", DistanceBasis.CALIBRATED, 0.25),
    ],
)
def test_spacing_of_real_headers(file: str, basis: DistanceBasis, row_mm: float) -> None:
    spacing = image_spacing(read_header(FOLDER / file))
    assert spacing.basis is basis
    assert spacing.row_mm == pytest.approx(row_mm)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "file",
    [
        "pydicom/CR1__6154",
        "dwv/gdcm-CR-MONO1-10-chest.dcm",
        "highdicom/dx_image.dcm",
        "dicom-test-files/RG3_JPLL",
        "dicom-test-files/RG3_JPLY",
        "pylibjpeg-data/RG2_JPLY_fixed.dcm",
        "orthanc-tests/KarstenHilbertRF.dcm",
        "fo-dicom/OutOfBoundsOverlay.dcm",
    ],
)
def test_dcmtk_shows_the_same_image(file: str, tmp_path: Path) -> None:
    np.testing.assert_allclose(
        read_pixels(FOLDER / file), shown_by_dcmtk(FOLDER / file, tmp_path), atol=2 / 65535 + 1e-3
    )
