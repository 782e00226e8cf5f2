"""Bring a freshly spawned process up to speed: the first report of a process costs ten times what the next ones do."""

from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation

from schemas.codes import Finding, Segment
from schemas.result import (
    BundleReference,
    EngineReference,
    FindingResult,
    ImageResult,
    StudyResult,
    Urgency,
)
from schemas.settings import SegmentationGeometry
from workers.results.derived_uid import derived_uid
from workers.results.equipment import part10_bytes
from workers.results.report import build_report
from workers.results.segmentation import build_segmentation
from workers.results.source import ImageIdentity, ReportIdentity, SourceImage, tracking_keys

_SIDE = 16


def warm_up() -> None:
    """Import and fill every cache by building one tiny segmentation and one tiny report, which are thrown away."""
    uid = {name: str(derived_uid("warm up", name)) for name in ("study", "series", "image", "seg", "sc", "sr")}
    header = Dataset()
    header.SOPClassUID = DigitalXRayImageStorageForPresentation
    header.SOPInstanceUID, header.SeriesInstanceUID, header.StudyInstanceUID = uid["image"], uid["series"], uid["study"]
    finding = FindingResult(
        finding=Finding.PNEUMOTHORAX, score=0.0, operating_point=0.5, calibrated=False, present=False
    )
    result = ImageResult(
        sop_instance_uid=uid["image"], rows=_SIDE, columns=_SIDE, findings=[finding], tubes=[], segments=[]
    )
    source = SourceImage(
        header=header,
        result=result,
        masks={Segment.HEART: np.ones((_SIDE, _SIDE), dtype=np.bool_)},
        identity=ImageIdentity(
            segmentation_sop_instance_uid=uid["seg"],
            segmentation_series_instance_uid=uid["seg"],
            secondary_capture_sop_instance_uid=uid["sc"],
            secondary_capture_series_instance_uid=uid["sc"],
            tracking_uids={key: str(derived_uid("warm up", key)) for key in tracking_keys([finding.finding])},
        ),
    )
    study = StudyResult(
        study_instance_uid=uid["study"],
        version=1,
        bundle=BundleReference(name="warm-up", version="0", digest="0" * 64, cleared_for_clinical_use=False),
        engine=EngineReference(device="none", precision="none", software_version="0"),
        images=[result],
        urgency=Urgency.ROUTINE,
        malpositioned_tube=False,
        notice="",
    )
    time = datetime(2000, 1, 1)
    segmentation = build_segmentation(source, study.bundle, SegmentationGeometry.PLANES, time)
    assert segmentation is not None
    part10_bytes(segmentation)
    identity = ReportIdentity(sop_instance_uid=uid["sr"], series_instance_uid=uid["sr"])
    part10_bytes(build_report(study, [source], [segmentation], identity, time))
