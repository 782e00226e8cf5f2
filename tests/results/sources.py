"""Synthetic images, results and identities for the tests of result objects, and the tools that judge the objects."""

import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from schemas.codes import CXR_LT, NOT_FOR_CLINICAL_USE, Device, DistanceBasis, Finding, Segment, TubePosition
from schemas.result import (
    BundleReference,
    EngineReference,
    FailedImage,
    FindingResult,
    ImageResult,
    Point,
    SegmentResult,
    StudyResult,
    TipToCarina,
    TubeResult,
    Urgency,
)
from workers.results.derived_uid import derived_uid
from workers.results.source import ImageIdentity, Predecessor, ReportIdentity, SourceImage, tracking_keys

ROWS, COLUMNS = 250, 205
CONTENT_TIME = datetime(2026, 11, 22, 14, 30, 5, 250000)
BUNDLE = BundleReference(name="phantom-chest", version="1.0", digest="ab" * 32, cleared_for_clinical_use=False)
STUDY_UID = str(derived_uid("test", "study"))
#: Of an ordinary image; a report of all that can be said takes three times as long to build.
FINDINGS = (
    Finding.PLEURAL_EFFUSION,
    Finding.PNEUMOTHORAX,
    Finding.CONSOLIDATION,
    Finding.CARDIOMEGALY,
    Finding.NODULE,
)


def dx_header(name: str = "a", /, **changes: Any) -> Dataset:
    """A DX image without spacing, frame of reference or orders; `changes` set attributes, None removes them."""
    header = Dataset()
    header.SOPClassUID = DigitalXRayImageStorageForPresentation
    header.SOPInstanceUID = derived_uid("test", "image", name)
    header.StudyInstanceUID = STUDY_UID
    header.SeriesInstanceUID = derived_uid("test", "series", name)
    header.Modality = "DX"
    header.Manufacturer = "Acme"
    header.ManufacturerModelName = "Wall 1"
    header.PatientName = "Doe^Jane"
    header.PatientID = "P1"
    header.PatientBirthDate = "19500101"
    header.PatientSex = "F"
    header.StudyDate = "20261122"
    header.StudyTime = "101500"
    header.StudyID = "1"
    header.AccessionNumber = ""
    header.ReferringPhysicianName = ""
    header.StudyDescription = "Chest"
    header.PatientOrientation = ["L", "F"]
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = ROWS, COLUMNS
    for keyword, value in changes.items():
        if value is None:
            del header[keyword]
        else:
            setattr(header, keyword, value)
    return header


def cr_header(name: str = "a", /, **changes: Any) -> Dataset:
    return dx_header(name, **{"SOPClassUID": ComputedRadiographyImageStorage, "Modality": "CR", **changes})


def received(header: Dataset) -> Dataset:
    """`header` as it comes out of a file: values undecoded until somebody asks."""
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = io.BytesIO()
    dcmwrite(stream, header, enforce_file_format=True)
    stream.seek(0)
    return dcmread(stream)


def request_attributes(accession_number: str) -> Dataset:
    item = Dataset()
    item.AccessionNumber = accession_number
    item.RequestedProcedureID = "RP 7"
    item.RequestedProcedureDescription = "Chest PA"
    item.ScheduledProcedureStepID = "SPS 7"
    item.PlacerOrderNumberImagingServiceRequest = "ORD 7"
    return item


def ellipse(rows: int, columns: int, centre: tuple[float, float], radii: tuple[float, float]) -> NDArray[np.bool_]:
    """Centre and radii as fractions of (rows, columns)."""
    y, x = np.ogrid[:rows, :columns]
    distance = ((y / rows - centre[0]) / radii[0]) ** 2 + ((x / columns - centre[1]) / radii[1]) ** 2
    return np.asarray(distance <= 1)


def masks(rows: int = ROWS, columns: int = COLUMNS) -> dict[Segment, NDArray[np.bool_]]:
    tube = np.zeros((rows, columns), dtype=np.bool_)
    tube[: int(rows * 0.36), int(columns * 0.49) : int(columns * 0.51)] = True
    return {
        Segment.RIGHT_LUNG: ellipse(rows, columns, (0.5, 0.28), (0.33, 0.16)),
        Segment.LEFT_LUNG: ellipse(rows, columns, (0.5, 0.72), (0.33, 0.15)),
        Segment.HEART: ellipse(rows, columns, (0.65, 0.55), (0.16, 0.17)),
        Segment.ENDOTRACHEAL_TUBE: tube,
    }


def finding(finding: Finding, present: bool, calibrated: bool = False) -> FindingResult:
    return FindingResult(
        finding=finding,
        score=0.87251 if present else 0.04,
        operating_point=0.5,
        calibrated=calibrated,
        present=present,
    )


def forty(present: Sequence[Finding] = (), operating_point: float | None = None) -> list[FindingResult]:
    """All findings of the published head; without an operating point what is not `present` is undetermined."""
    return [
        FindingResult(
            finding=each,
            score=0.95 if each in present else 0.4 - number / 100,
            operating_point=0.5 if each in present else operating_point,
            calibrated=False,
            present=True if each in present else None if operating_point is None else False,
        )
        for number, each in enumerate(CXR_LT)
    ]


def tube(basis: DistanceBasis = DistanceBasis.DETECTOR_PLANE, rows: int = ROWS, columns: int = COLUMNS) -> TubeResult:
    x = columns * 0.5
    return TubeResult(
        device=Device.ENDOTRACHEAL_TUBE,
        present=True,
        score=0.99,
        operating_point=0.4,
        calibrated=False,
        position=TubePosition.ABNORMAL,
        malposition_score=0.81,
        position_reason="The tip lies 12.3 mm above the carina.",
        tip=Point(x=x, y=rows * 0.36),
        carina=Point(x=x + columns * 0.01, y=rows * 0.42),
        course=[Point(x=x, y=0), Point(x=x - 1, y=rows * 0.2), Point(x=x, y=rows * 0.36)],
        tip_to_carina=TipToCarina(
            pixels=rows * 0.06, millimetres=None if basis is DistanceBasis.NONE else 12.34, basis=basis
        ),
    )


ABSENT_TUBE = TubeResult(
    device=Device.ENDOTRACHEAL_TUBE, present=False, score=0.02, operating_point=0.4, calibrated=False
)


def lines(rows: int = ROWS, columns: int = COLUMNS) -> list[TubeResult]:
    """A nasogastric tube that lies well and a central venous catheter that does not, as results state them."""
    centre, low = columns * 0.52, rows * 0.95
    return [
        TubeResult(
            device=Device.NASOGASTRIC_TUBE,
            present=True,
            score=0.93,
            operating_point=0.5,
            calibrated=False,
            course_score=0.97,
            position=TubePosition.NORMAL,
            malposition_score=0.1,
            position_reason="No distance is measured for this device.",
            tip=Point(x=columns * 0.7, y=low),
            course=[Point(x=centre, y=0), Point(x=centre, y=rows * 0.8), Point(x=columns * 0.7, y=low)],
        ),
        TubeResult(
            device=Device.CENTRAL_VENOUS_CATHETER,
            present=True,
            score=0.9,
            operating_point=0.5,
            calibrated=False,
            course_score=0.8,
            position=TubePosition.ABNORMAL,
            malposition_score=0.9,
            position_reason="No distance is measured for this device.",
            tip=Point(x=columns * 0.2, y=rows * 0.2),
            course=[Point(x=columns * 0.05, y=rows * 0.3), Point(x=columns * 0.2, y=rows * 0.2)],
        ),
    ]


def refused_result(header: Dataset, reason: str = "lateral view (the model's reading)") -> ImageResult:
    """Of an image that was refused before any finding."""
    return ImageResult(
        sop_instance_uid=header.SOPInstanceUID,
        rows=header.Rows,
        columns=header.Columns,
        findings=[],
        tubes=[],
        segments=[],
        refused=reason,
    )


def image_result(
    header: Dataset, present: Sequence[Finding] = (Finding.PNEUMOTHORAX,), tubes: Sequence[TubeResult] | None = None
) -> ImageResult:
    rows, columns = header.Rows, header.Columns
    return ImageResult(
        sop_instance_uid=header.SOPInstanceUID,
        rows=rows,
        columns=columns,
        findings=[finding(each, each in present, each is Finding.NODULE) for each in FINDINGS],
        tubes=[tube(rows=rows, columns=columns)] if tubes is None else list(tubes),
        segments=[SegmentResult(segment=segment, pixels=1) for segment in Segment],
    )


def source(
    header: Dataset,
    result: ImageResult | None = None,
    image_masks: Mapping[Segment, NDArray[np.bool_]] | None = None,
) -> SourceImage:
    uid = str(header.SOPInstanceUID)
    return SourceImage(
        header=header,
        result=result or image_result(header),
        masks=masks(header.Rows, header.Columns) if image_masks is None else image_masks,
        identity=ImageIdentity(
            segmentation_sop_instance_uid=derived_uid(uid, "seg"),
            segmentation_series_instance_uid=derived_uid(uid, "seg series"),
            secondary_capture_sop_instance_uid=derived_uid(uid, "sc"),
            secondary_capture_series_instance_uid=derived_uid(uid, "sc series"),
            tracking_uids={key: derived_uid(uid, key) for key in tracking_keys(Finding)},
        ),
    )


def study(
    sources: Sequence[SourceImage],
    urgency: Urgency = Urgency.IMMEDIATE,
    version: int = 1,
    failed: Sequence[FailedImage] = (),
) -> StudyResult:
    return StudyResult(
        study_instance_uid=STUDY_UID,
        version=version,
        bundle=BUNDLE,
        engine=EngineReference(device="cpu", precision="float32", software_version="0.1.0"),
        images=[each.result for each in sources],
        failed=list(failed),
        urgency=urgency,
        malpositioned_tube=urgency is Urgency.IMMEDIATE,
        notice=NOT_FOR_CLINICAL_USE,
    )


def report_identity(version: int = 1) -> ReportIdentity:
    def uid(kind: str, number: int) -> UID:
        return derived_uid("test", kind, str(number))

    predecessor = None
    if version > 1:
        predecessor = Predecessor(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
            sop_instance_uid=uid("report", version - 1),
            study_instance_uid=STUDY_UID,
            series_instance_uid=uid("report series", version - 1),
        )
    return ReportIdentity(uid("report", version), uid("report series", version), predecessor)
