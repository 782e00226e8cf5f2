import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from schemas.errors import ChexnodeError, NotDicomError, ObjectMissingError, PixelDataError, UnsupportedImageError
from tests.pixels.films import film, shown_by_dcmtk, written
from workers.pixels import read_header, read_pixels

pytestmark = pytest.mark.filterwarnings("ignore")


def _ramp(rows: int = 64, columns: int = 64, low: int = 0, high: int = 4095, dtype: str = "<u2") -> NDArray[Any]:
    return np.linspace(low, high, rows * columns).astype(dtype).reshape(rows, columns)


def _lut(data: list[int], first: int, bits: int, vr: str = "OW") -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(data), first, bits]
    item.add_new("LUTData", vr, data if vr == "US" else np.array(data, "<u2").tobytes())
    return item


_CURVE = [round(4095 * (i / 4095) ** 2) for i in range(4096)]


@pytest.mark.parametrize(
    ("attributes", "options"),
    [
        ({"WindowCenter": 2048, "WindowWidth": 4096}, ()),
        ({"WindowCenter": [1000, 3000], "WindowWidth": [500, 10]}, ()),
        ({"WindowCenter": 2000.5, "WindowWidth": 1}, ()),
        (
            {
                "WindowCenter": 100,
                "WindowWidth": 900,
                "RescaleSlope": -2,
                "RescaleIntercept": 600,
                "RescaleType": "US",
            },
            (),
        ),
        ({"WindowCenter": 1500, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"}, ()),
        ({"WindowCenter": 2048, "WindowWidth": 3000, "PhotometricInterpretation": "MONOCHROME1"}, ()),
        (
            {
                "WindowCenter": 2048,
                "WindowWidth": 3000,
                "PhotometricInterpretation": "MONOCHROME1",
                "PresentationLUTShape": "INVERSE",
            },
            (),
        ),
        ({"WindowCenter": 2048, "WindowWidth": 3000, "PresentationLUTShape": "INVERSE"}, ()),
        (
            {
                "WindowCenter": 2048,
                "WindowWidth": 3000,
                "PhotometricInterpretation": "MONOCHROME1",
                "PresentationLUTShape": "IDENTITY",
            },
            (),
        ),
        ({"VOILUTSequence": [_lut(_CURVE, 0, 12)]}, ("--use-voi-lut", "1")),
        ({"VOILUTSequence": [_lut(_CURVE[:1000], 800, 12, "US")]}, ("--use-voi-lut", "1")),
        ({"ModalityLUTSequence": [_lut(_CURVE, 0, 12)], "WindowCenter": 2048, "WindowWidth": 4096}, ()),
        ({}, ("--min-max-window",)),
    ],
)
def test_grey_values_agree_with_dcmtk(attributes: dict[str, Any], options: tuple[str, ...], tmp_path: Path) -> None:
    for item in attributes.get("ModalityLUTSequence", []):
        item.ModalityLUTType = "US"
    path = written(film(_ramp(), **attributes), tmp_path / "film.dcm")
    # DCMTK renders 12-bit images through tables of 12 bits.
    np.testing.assert_allclose(read_pixels(path), shown_by_dcmtk(path, tmp_path, *options), atol=1.5 / 4095)


def test_inverse_shape_of_a_monochrome1_image_is_one_inversion_and_not_two(tmp_path: Path) -> None:
    pixels = _ramp()
    for photometric, shape, bright_is_high in [
        ("MONOCHROME2", None, True),
        ("MONOCHROME2", "IDENTITY", True),
        ("MONOCHROME1", None, False),
        ("MONOCHROME1", "INVERSE", False),
    ]:
        made = film(pixels, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
        shown = read_pixels(written(made, tmp_path / "film.dcm"))
        assert (shown[-1, -1] > shown[0, 0]) == bright_is_high, (photometric, shape)


def test_linear_exact_differs_from_linear_by_the_half_value_of_the_standard(tmp_path: Path) -> None:
    pixels = np.array([[10, 11, 12, 13]], "<u2")
    window = {"WindowCenter": 12, "WindowWidth": 4}
    exact = read_pixels(written(film(pixels, **window, VOILUTFunction="LINEAR_EXACT"), tmp_path / "film.dcm"))
    np.testing.assert_allclose(exact, [[0, 0.25, 0.5, 0.75]])
    linear = read_pixels(written(film(pixels, **window), tmp_path / "film.dcm"))
    np.testing.assert_allclose(linear, [[0, 1 / 3, 2 / 3, 1]], atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_stretch_the_range(photometric: str, tmp_path: Path) -> None:
    pixels = np.array([[4000, 100, 150, 200, 4010, 4011]], "<u2")
    padding = {"PixelPaddingValue": 4010, "PixelPaddingRangeLimit": 4000}
    shown = read_pixels(written(film(pixels, PhotometricInterpretation=photometric, **padding), tmp_path / "film.dcm"))
    assert shown[0, 0] == shown[0, 4] == 0
    inner = [0, 50 / 3911, 100 / 3911, 1]
    if photometric == "MONOCHROME1":
        inner = [1 - value for value in inner]
    np.testing.assert_allclose(shown[0, [1, 2, 3, 5]], inner, atol=1e-6)


def test_a_window_that_shows_nothing_is_replaced_by_the_whole_range(tmp_path: Path) -> None:
    made = film(_ramp(high=1000), WindowCenter=-20000, WindowWidth=100)
    shown = read_pixels(written(made, tmp_path / "film.dcm"))
    assert shown.min() == 0
    assert shown.max() == 1


@pytest.mark.parametrize(
    "attributes",
    [
        {"WindowCenter": 2000, "WindowWidth": 0},
        {"WindowCenter": 2000, "WindowWidth": -5},
        {"WindowCenter": 2000},
        {"VOILUTSequence": [Dataset()]},
        {"RescaleSlope": 0, "RescaleIntercept": 7},
    ],
)
def test_nonsense_in_the_pipeline_falls_back_to_the_whole_range(attributes: dict[str, Any], tmp_path: Path) -> None:
    shown = read_pixels(written(film(_ramp(), **attributes), tmp_path / "film.dcm"))
    np.testing.assert_allclose(shown, _ramp() / 4095, atol=1e-6)


@pytest.mark.parametrize("attributes", [{}, {"WindowCenter": 2048, "WindowWidth": 4096}, {"PixelPaddingValue": 7}])
def test_a_constant_image_is_safe(attributes: dict[str, Any], tmp_path: Path) -> None:
    shown = read_pixels(written(film(np.full((9, 7), 7, "<u2"), **attributes), tmp_path / "film.dcm"))
    assert shown.shape == (9, 7)
    assert not shown.any()


_SYNTAXES = [
    *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian),
    *(RLELossless, JPEG2000Lossless, JPEGLSLossless),
]


@pytest.mark.parametrize("syntax", _SYNTAXES, ids=lambda syntax: UID(syntax).name)
@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<i2"])
def test_every_transfer_syntax_gives_the_same_grey_values(syntax: str, dtype: str, tmp_path: Path) -> None:
    low, high = {"<u1": (0, 255), "<u2": (0, 4095), "<i2": (-2048, 2047)}[dtype]
    pixels = _ramp(low=low, high=high, dtype=dtype)
    made = film(pixels, WindowCenter=(low + high) / 4, WindowWidth=(high - low) / 2)
    reference = read_pixels(written(made, tmp_path / "reference.dcm"))
    if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        made.compress(syntax, generate_instance_uid=False)
        made.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    else:
        written(made, tmp_path / "film.dcm", syntax)
    np.testing.assert_array_equal(read_pixels(tmp_path / "film.dcm"), reference)


def test_jpeg_lossless_and_extended_of_twelve_bits_are_read(tmp_path: Path) -> None:
    pixels = _ramp()
    path = written(film(pixels, WindowCenter=2048, WindowWidth=4096), tmp_path / "film.dcm")
    reference = read_pixels(path)
    for option, tolerance in [("+e1", 0.0), ("+el", 0.0), ("+ee", 0.02)]:
        coded = tmp_path / f"coded{option}.dcm"
        try:
            subprocess.run(["dcmcjpeg", option, str(path), str(coded)], check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("dcmcjpeg is not installed (Debian package dcmtk)")
        np.testing.assert_allclose(read_pixels(coded), reference, atol=tolerance)


def test_jpeg_2000_with_more_bits_than_the_header_says_is_read_by_its_codestream(tmp_path: Path) -> None:
    made = film(_ramp(), BitsStored=16, HighBit=15, WindowCenter=2048, WindowWidth=4096)
    reference = read_pixels(written(made, tmp_path / "reference.dcm"))
    made.compress(JPEG2000Lossless, generate_instance_uid=False)
    made.BitsStored, made.HighBit = 12, 11
    made.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_pixels(tmp_path / "film.dcm"), reference)


@pytest.mark.parametrize("signed", [False, True])
def test_overlay_bits_above_and_below_the_value_are_ignored(signed: bool, tmp_path: Path) -> None:
    values = _ramp(low=-512 if signed else 0, high=511 if signed else 1023, dtype="<i2" if signed else "<u2")
    plain = film(values, BitsStored=10, HighBit=9)
    shifted = ((values.view("<u2") & 0x3FF) << 2) | np.uint16(0xF003)
    made = film(shifted.astype("<u2"), BitsStored=10, HighBit=11, PixelRepresentation=int(signed))
    np.testing.assert_array_equal(
        read_pixels(written(made, tmp_path / "film.dcm")), read_pixels(written(plain, tmp_path / "plain.dcm"))
    )


@pytest.mark.parametrize(
    ("attributes", "error", "match"),
    [
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, UnsupportedImageError, "RGB"),
        ({"NumberOfFrames": 2}, UnsupportedImageError, "2 frames"),
        ({"BitsAllocated": 32, "BitsStored": 32}, UnsupportedImageError, "32"),
        ({"Rows": 60000, "Columns": 60000}, UnsupportedImageError, "60000"),
        ({"PhotometricInterpretation": None}, PixelDataError, "Photometric"),
        ({"Rows": 65}, PixelDataError, "sender"),
        ({"Rows": 0}, PixelDataError, "0 rows"),
        ({"BitsStored": 17}, PixelDataError, "Bits Stored"),
        ({"ModalityLUTSequence": [Dataset()]}, PixelDataError, "Modality LUT"),
    ],
)
def test_what_cannot_be_read_says_why(
    attributes: dict[str, Any], error: type[ChexnodeError], match: str, tmp_path: Path
) -> None:
    path = written(film(_ramp(), **attributes), tmp_path / "film.dcm")
    with pytest.raises(error, match=match):
        read_pixels(path)


def test_no_or_empty_pixel_data_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    made = film(_ramp())
    made.PixelData = b""
    with pytest.raises(PixelDataError, match="send it again"):
        read_pixels(written(made, tmp_path / "film.dcm"))
    del made.PixelData
    with pytest.raises(PixelDataError, match="send it again"):
        read_pixels(written(made, tmp_path / "film.dcm"))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda syntax: UID(syntax).name)
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.98])
def test_a_cut_codestream_is_an_error_and_never_half_an_image(syntax: str, kept: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype("<u2")
    made = film(noise)
    made.compress(syntax, generate_instance_uid=False)
    frame = next(generate_frames(made.PixelData, number_of_frames=1))
    made.PixelData = encapsulate([frame[: int(len(frame) * kept)]])
    made.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    with pytest.raises(PixelDataError):
        read_pixels(tmp_path / "film.dcm")


def test_a_cut_file_is_an_error(tmp_path: Path) -> None:
    path = written(film(_ramp()), tmp_path / "film.dcm")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ChexnodeError):
        read_pixels(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_end_in_an_image_or_in_a_project_error(tmp_path: Path, data: st.DataObject) -> None:
    made = film(_ramp(16, 16), WindowCenter=2048, WindowWidth=4096, VOILUTSequence=[_lut(_CURVE[:64], 0, 12)])
    if data.draw(st.booleans()):
        made.compress(RLELossless, generate_instance_uid=False)
    made.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    content = bytearray((tmp_path / "film.dcm").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(128, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "film.dcm").write_bytes(content)
    try:
        shown = read_pixels(tmp_path / "film.dcm")
    except ChexnodeError:
        return
    assert shown.dtype == np.float32
    assert np.isfinite(shown).all()
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_files_that_are_no_dicom_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("This is no DICOM file." * 20)
    for read in (read_header, read_pixels):
        with pytest.raises(NotDicomError):
            read(tmp_path / "text")
        with pytest.raises(ObjectMissingError):
            read(tmp_path / "absent")


def test_the_header_is_read_without_pixels(tmp_path: Path) -> None:
    header = read_header(written(film(_ramp()), tmp_path / "film.dcm"))
    assert header.Rows == 64
    assert "PixelData" not in header


def test_reading_pixels_does_not_break_pillow_in_the_same_process() -> None:
    # The GDCM wheel's own zlib did, see workers/pixels.py. In a fresh process, because the order of loading decides.
    program = (
        "import workers.pixels, io, numpy; from PIL import Image; "
        "noise = numpy.random.default_rng(0).integers(0, 256, (300, 300)).astype('u1'); "
        "[Image.fromarray(noise).save(io.BytesIO(), kind) for kind in ('png', 'jpeg', 'tiff')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
