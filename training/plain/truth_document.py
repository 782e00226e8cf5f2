"""The truth of a phantom as a document, written beside its DICOM file."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from schemas.codes import Finding, Segment
from schemas.result import Point
from training.plain.phantom.truth import SEGMENTS, Phantom


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TubeTruthDocument(_Document):
    tip: Point
    #: From the upper end to the tip.
    course: list[Point]
    tip_to_carina_mm: float
    malpositioned: bool


class PhantomTruth(_Document):
    """Points are image pixel coordinates as in SCOORD."""

    seed: int
    sop_instance_uid: str
    rows: int
    columns: int
    mm_per_pixel: float
    view_position: Literal["PA", "AP"]
    findings: list[Finding]
    carina: Point
    #: None without a tube.
    tube: TubeTruthDocument | None
    #: Pixels inside each mask.
    segment_pixels: dict[Segment, int]


def phantom_truth(phantom: Phantom, sop_instance_uid: str) -> PhantomTruth:
    """What was drawn, for the image with this UID."""
    rows, columns = phantom.image.shape
    tube = phantom.tube
    return PhantomTruth(
        seed=phantom.seed,
        sop_instance_uid=sop_instance_uid,
        rows=rows,
        columns=columns,
        mm_per_pixel=phantom.mm_per_pixel,
        view_position=phantom.view_position,
        findings=sorted(phantom.findings),
        carina=phantom.carina,
        tube=None
        if tube is None
        else TubeTruthDocument(
            tip=tube.tip,
            course=[Point(x=float(x), y=float(y)) for x, y in tube.course],
            tip_to_carina_mm=tube.tip_to_carina_mm,
            malpositioned=tube.malpositioned,
        ),
        segment_pixels={segment: int(mask.sum()) for segment, mask in zip(SEGMENTS, phantom.masks, strict=True)},
    )
