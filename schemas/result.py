"""The result document of a study: what the ledger keeps, `chexnode analyze` writes and the page will show.

Its JSON Schema is exported to schemas/result.schema.json (a test keeps both equal).
Points are image pixel coordinates as in SCOORD (PS3.3 C.18.6.1.1): x = column, y = row, (0.0, 0.0) = the top left
corner of the top left pixel.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.codes import Device, DistanceBasis, Finding, Segment, TubePosition

Score = Annotated[float, Field(ge=0, le=1)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Urgency(StrEnum):
    """How soon a study wants a reader: the worst category of its current results, or routine."""

    IMMEDIATE = "immediate"
    URGENT = "urgent"
    SOON = "soon"
    ROUTINE = "routine"


class OrderPriority(StrEnum):
    """How soon the one who ordered the study wants it read (Requested Procedure Priority, PS3.3 C.4.11)."""

    STAT = "stat"
    HIGH = "high"
    ROUTINE = "routine"


class Point(_Document):
    x: float
    y: float


class CalibrationReference(_Document):
    """What a score was calibrated on."""

    data: str
    n: Annotated[int, Field(gt=0)]
    #: Share of present among the patients for whom it was made.
    prevalence: Score
    #: Whether these were radiographs of patients of the intended population.
    real: bool


class FindingResult(_Document):
    finding: Finding
    score: Score
    #: None when the bundle has none for this finding: then nothing is said of its presence.
    operating_point: Score | None
    #: Whether `score` may be read as a probability.
    calibrated: bool
    #: None: it is the bare score of the network.
    calibration: CalibrationReference | None = None
    #: None: undetermined.
    present: bool | None


class TipToCarina(_Document):
    """The distance along the image from tube tip to carina; positive when the tip lies above (cranial of) it."""

    pixels: float
    #: None when the image has no spacing.
    millimetres: float | None
    basis: DistanceBasis
    #: Between these the distance in the patient lies, where the image does not say how much it is magnified: basis
    #: DETECTOR_PLANE, in which `millimetres` is measured. None otherwise.
    lowest_millimetres: float | None = None
    highest_millimetres: float | None = None


class TubeResult(_Document):
    device: Device
    present: bool
    #: Of the class "present", fused with `course_score` where there is one (workers/tubes.py).
    score: Score
    operating_point: Score | None
    calibrated: bool
    #: Of `score`; None when it is no class's alone.
    calibration: CalibrationReference | None = None
    #: None when the device is absent, and where nothing judges it.
    position: TubePosition | None = None
    #: How plainly its course is seen: the highest score on the line that was traced; None without a map of it.
    course_score: Score | None = None
    #: Score of the class "malpositioned", 0..1; decides together with the distance, and alone where there is none.
    malposition_score: Score | None = None
    #: Of `malposition_score`, a probability where `real`; None: it is the bare score of the network.
    malposition_calibration: CalibrationReference | None = None
    #: Why `position` is what it is, one sentence.
    position_reason: str = ""
    tip: Point | None = None
    carina: Point | None = None
    #: The centre line from the upper end to the tip.
    course: list[Point] = Field(default_factory=list)
    tip_to_carina: TipToCarina | None = None


class SegmentResult(_Document):
    segment: Segment
    #: Number of image pixels inside.
    pixels: int


class ImageResult(_Document):
    """What one image shows under one bundle."""

    sop_instance_uid: str
    rows: int
    columns: int
    findings: list[FindingResult]
    tubes: list[TubeResult]
    segments: list[SegmentResult]
    #: Why the image was refused before any finding ("lateral view", ...); then nothing else is said. "" otherwise.
    refused: str = ""


class FailedImage(_Document):
    sop_instance_uid: str
    reason: str


class BundleReference(_Document):
    name: str
    version: str
    #: SHA-256 over the whole bundle.
    digest: str
    cleared_for_clinical_use: bool
    #: What nobody has shown to work says so; "" otherwise.
    unproven: str = ""


class EngineReference(_Document):
    """What computed it, so that a figure can be traced to code and precision."""

    #: "torch", "openvino" or "onnxruntime".
    name: str = "torch"
    device: str
    precision: str
    software_version: str


class StudyResult(_Document):
    """Result of one study under one bundle, one version."""

    format: Literal[1] = 1
    study_instance_uid: str
    version: int
    bundle: BundleReference
    engine: EngineReference
    images: list[ImageResult]
    failed: list[FailedImage] = Field(default_factory=list)
    urgency: Urgency
    #: True when any tube lies abnormally: the flag of the worklist.
    malpositioned_tube: bool
    notice: str
