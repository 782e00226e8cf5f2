"""Other people's tools accept every kind of result object, whatever the source image lacks."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from schemas.codes import DistanceBasis, Finding, Segment
from schemas.result import FailedImage, Urgency
from schemas.settings import SegmentationGeometry
from tests.results.sources import (
    ABSENT_TUBE,
    BUNDLE,
    COLUMNS,
    CONTENT_TIME,
    ROWS,
    cr_header,
    dx_header,
    forty,
    image_result,
    lines,
    received,
    refused_result,
    report_identity,
    request_attributes,
    source,
    study,
    tube,
)
from tests.support.dicom_tools import dciodvfy_errors
from workers.results.equipment import part10_bytes
from workers.results.report import build_report
from workers.results.secondary_capture import build_secondary_capture
from workers.results.segmentation import build_segmentation

pytestmark = pytest.mark.skipif(
    shutil.which("dciodvfy") is None or shutil.which("dsrdump") is None, reason="needs dicom3tools and dcmtk"
)

HEADERS: dict[str, Callable[[], Dataset]] = {
    "DX without spacing": dx_header,
    "DX with Imager Pixel Spacing": lambda: dx_header(ImagerPixelSpacing=[0.15, 0.15]),
    "CR without Patient ID": lambda: cr_header(PatientID=None, PatientOrientation=None),
    "Japanese name": lambda: dx_header(
        SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう"
    ),
    "MONOCHROME1": lambda: dx_header(PhotometricInterpretation="MONOCHROME1"),
    "frame of reference without a position": lambda: dx_header(FrameOfReferenceUID="1.2.3.4"),
    "accession number and requests": lambda: dx_header(
        AccessionNumber="ACC 20 26 1", RequestAttributesSequence=[request_attributes("ACC 20 26 1")]
    ),
    "lossy": lambda: dx_header(LossyImageCompression="01", LossyImageCompressionRatio="10"),
    "secondary capture, no study date": lambda: dx_header(
        SOPClassUID=SecondaryCaptureImageStorage, Modality="CR", StudyDate=None, StudyTime="", PatientName=None
    ),
    "spacing of zero": lambda: dx_header(PixelSpacing=[0, 0]),
    "de-identified": lambda: dx_header(PatientIdentityRemoved="YES", DeidentificationMethod="by hand"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_every_object_is_valid(name: str, tmp_path: Path) -> None:
    image = source(received(HEADERS[name]()))
    objects: dict[str, Dataset | None] = {
        str(geometry): build_segmentation(image, BUNDLE, geometry, CONTENT_TIME) for geometry in SegmentationGeometry
    }
    segmentation = objects[SegmentationGeometry.PLANES]
    assert segmentation is not None
    overlay = np.zeros((ROWS, COLUMNS, 3), dtype=np.uint8)
    objects["overlay"] = build_secondary_capture(image, overlay, BUNDLE, CONTENT_TIME)
    objects["report"] = build_report(study([image]), [image], [segmentation], report_identity(), CONTENT_TIME)
    for kind, dataset in objects.items():
        assert dataset is not None
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(part10_bytes(dataset))
        assert dciodvfy_errors(path) == [], kind
    assert _dsrdump(tmp_path / "report.dcm") == 0


def _reports() -> dict[str, Dataset]:
    header = received(dx_header())
    normal = source(header, image_result(header, present=(), tubes=[ABSENT_TUBE]))
    unscaled = source(header, image_result(header, tubes=[tube(DistanceBasis.NONE)]), {})
    second = source(received(dx_header("b")))
    several = source(header, image_result(header, tubes=[tube(), *lines()]))
    lateral = received(dx_header("c"))
    refused = source(lateral, refused_result(lateral), {})
    failed = [FailedImage(sop_instance_uid="1.2.3", reason="The codestream is ≥ 3 bytes short.")]
    identity, time = report_identity(), CONTENT_TIME
    return {
        "normal": build_report(study([normal], Urgency.ROUTINE), [normal], [], identity, time),
        "no masks, no scale": build_report(study([unscaled]), [unscaled], [], identity, time),
        "two images": build_report(study([normal, second]), [normal, second], [], identity, time),
        "second version": build_report(study([normal], version=2), [normal], [], report_identity(2), time),
        "several devices": build_report(study([several]), [several], [], identity, time),
        "refused": build_report(study([refused], Urgency.ROUTINE), [refused], [], identity, time),
        "one of two refused": build_report(study([normal, refused]), [normal, refused], [], identity, time),
        "partial": build_report(study([normal], failed=failed), [normal], [], identity, time),
    }


def test_every_kind_of_report_is_valid(tmp_path: Path) -> None:
    for name, report in _reports().items():
        path = tmp_path / "report.dcm"
        path.write_bytes(part10_bytes(report))
        assert dciodvfy_errors(path) == [], name
        assert _dsrdump(path) == 0, name


def test_a_single_segment_is_valid(tmp_path: Path) -> None:
    image = source(dx_header(), image_masks={Segment.HEART: np.ones((ROWS, COLUMNS), dtype=np.bool_)})
    for geometry in SegmentationGeometry:
        segmentation = build_segmentation(image, BUNDLE, geometry, CONTENT_TIME)
        assert segmentation is not None
        path = tmp_path / "seg.dcm"
        path.write_bytes(part10_bytes(segmentation))
        assert dciodvfy_errors(path) == []


def _dsrdump(path: Path) -> int:
    return subprocess.run(["dsrdump", str(path)], capture_output=True, check=False).returncode


def test_a_report_of_forty_findings_is_valid(tmp_path: Path) -> None:
    header = received(dx_header())
    every = forty([Finding.NORMAL, Finding.PNEUMOTHORAX, Finding.AZYGOS_LOBE])
    image = source(header, image_result(header).model_copy(update={"findings": every}))
    path = tmp_path / "report.dcm"
    path.write_bytes(part10_bytes(build_report(study([image]), [image], [], report_identity(), CONTENT_TIME)))
    assert dciodvfy_errors(path) == []
    assert _dsrdump(path) == 0
    # Delivery and viewers take it at once: a kilobyte or three for each finding.
    assert path.stat().st_size < 200_000
