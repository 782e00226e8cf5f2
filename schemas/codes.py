"""The vocabulary: what CheXNode can say about a chest radiograph, each term with its code and its triage category.

Used by model manifests, result documents, result objects and triage. Code choice and the terms that are not in the
standard's dictionaries: docs/decisions/004-vocabulary.md.
"""

from enum import StrEnum

from schemas.code import PRIVATE_SCHEME as PRIVATE_SCHEME
from schemas.code import PRIVATE_SCHEME_NAME as PRIVATE_SCHEME_NAME
from schemas.code import Code as Code
from schemas.findings import CXR_LT as CXR_LT
from schemas.findings import HEART as HEART
from schemas.findings import LUNG as LUNG
from schemas.findings import THORAX as THORAX
from schemas.findings import Category as Category
from schemas.findings import Finding as Finding

#: Free-text notice on every surface of a result whose bundle is not cleared for clinical use.
NOT_FOR_CLINICAL_USE = "Not for clinical use"


class Device(StrEnum):
    """A tube or line: presence and position are two things (results section of the design)."""

    ENDOTRACHEAL_TUBE = "endotracheal_tube"
    NASOGASTRIC_TUBE = "nasogastric_tube"
    CENTRAL_VENOUS_CATHETER = "central_venous_catheter"

    @property
    def code(self) -> Code:
        return _DEVICES[self][0]

    @property
    def site(self) -> Code:
        """Where it belongs: what it is looked for along."""
        return _DEVICES[self][1]

    @property
    def segment(self) -> "Segment":
        """The map of its course in a dense head."""
        return Segment(self.value)

    @property
    def tip(self) -> "Landmark":
        """The map of its tip in a dense head."""
        return Landmark(f"{self.value}_tip")

    @property
    def presence_target(self) -> str:
        """The class of a head that says whether it is there."""
        return f"{self.value}.presence"

    @property
    def malposition_target(self) -> str:
        """The class of a head that says whether it lies badly."""
        return f"{self.value}.malposition"


_DEVICES = {
    Device.ENDOTRACHEAL_TUBE: (Code("26412008", "SCT", "Endotracheal tube"), Code("44567001", "SCT", "Trachea")),
    Device.NASOGASTRIC_TUBE: (Code("17102003", "SCT", "Nasogastric tube"), Code("32849002", "SCT", "Esophagus")),
    Device.CENTRAL_VENOUS_CATHETER: (
        Code("52124006", "SCT", "Central venous catheter"),
        Code("48345005", "SCT", "Superior vena cava"),
    ),
}


class TubePosition(StrEnum):
    """Where a tube lies, in the classes that RANZCR CLiP uses; no standard scheme codes malposition."""

    NORMAL = "normal"
    BORDERLINE = "borderline"
    ABNORMAL = "abnormal"
    INCOMPLETELY_IMAGED = "incompletely_imaged"

    @property
    def code(self) -> Code:
        return Code(_POSITION_VALUES[self], PRIVATE_SCHEME, f"Device position {self.value.replace('_', ' ')}")

    @property
    def category(self) -> Category | None:
        return {TubePosition.ABNORMAL: Category.IMMEDIATE, TubePosition.BORDERLINE: Category.URGENT}.get(self)


# At most 16 characters: longer ones go into Long Code Value, which many readers do not look at (PS3.3 section 8.1).
_POSITION_VALUES = {
    TubePosition.NORMAL: "POS_NORMAL",
    TubePosition.BORDERLINE: "POS_BORDERLINE",
    TubePosition.ABNORMAL: "POS_ABNORMAL",
    TubePosition.INCOMPLETELY_IMAGED: "POS_INCOMPLETE",
}


class Segment(StrEnum):
    """A region that a dense head outlines."""

    RIGHT_LUNG = "right_lung"
    LEFT_LUNG = "left_lung"
    HEART = "heart"
    CLAVICLES = "clavicles"
    RIBS = "ribs"
    ENDOTRACHEAL_TUBE = "endotracheal_tube"
    NASOGASTRIC_TUBE = "nasogastric_tube"
    CENTRAL_VENOUS_CATHETER = "central_venous_catheter"

    @property
    def device(self) -> Device | None:
        """The device whose course it is; None for anatomy."""
        return next((device for device in Device if device.value == self.value), None)

    @property
    def category_code(self) -> Code:
        """Segmented Property Category (CID 7150)."""
        if self.device is not None:
            return Code("260787004", "SCT", "Physical object")
        return Code("123037004", "SCT", "Anatomical Structure")

    @property
    def code(self) -> Code:
        """Segmented Property Type."""
        return _SEGMENTS[self][0]

    @property
    def cielab(self) -> tuple[float, float, float]:
        """Recommended display colour, CIELab (PS3.3 C.10.7.1.1) as L 0..100, a and b -128..127."""
        return _SEGMENTS[self][1]


class Landmark(StrEnum):
    """A point that a dense head locates."""

    ENDOTRACHEAL_TUBE_TIP = "endotracheal_tube_tip"
    NASOGASTRIC_TUBE_TIP = "nasogastric_tube_tip"
    CENTRAL_VENOUS_CATHETER_TIP = "central_venous_catheter_tip"
    CARINA = "carina"

    @property
    def code(self) -> Code:
        if self is Landmark.CARINA:
            return Code("28700002", "SCT", "Carina")
        return Code("TUBE_TIP", PRIVATE_SCHEME, "Tip of device")


class DistanceBasis(StrEnum):
    """What turns pixels into millimetres (PS3.3 section 10.7.1.3), best first."""

    #: Pixel Spacing with a calibration (fiducial or geometry), or as the modality's statement for the patient plane.
    CALIBRATED = "calibrated"
    #: Imager Pixel Spacing divided by Estimated Radiographic Magnification Factor.
    MAGNIFICATION_CORRECTED = "magnification_corrected"
    #: Imager Pixel Spacing as it is: distances read larger than in the patient.
    DETECTOR_PLANE = "detector_plane"
    #: No spacing: no millimetres are given.
    NONE = "none"

    @property
    def code(self) -> Code:
        return Code(_BASIS_VALUES[self], PRIVATE_SCHEME, f"Distance basis: {self.value.replace('_', ' ')}")


_BASIS_VALUES = {
    DistanceBasis.CALIBRATED: "BASIS_CALIBRATED",
    DistanceBasis.MAGNIFICATION_CORRECTED: "BASIS_MAGNIFIED",
    DistanceBasis.DETECTOR_PLANE: "BASIS_DETECTOR",
    DistanceBasis.NONE: "BASIS_NONE",
}

#: Names of measurements and evaluations that no standard scheme has.
DEVICE_POSITION = Code("DEVICE_POSITION", PRIVATE_SCHEME, "Device position")
TIP_TO_CARINA = Code("TIP_TO_CARINA", PRIVATE_SCHEME, "Distance from tip of device to carina")
#: Where the image does not say how much it is magnified, the distance in the patient lies between these two.
TIP_TO_CARINA_LEAST = Code("TIP_CARINA_LEAST", PRIVATE_SCHEME, "Least distance from tip of device to carina in patient")
TIP_TO_CARINA_MOST = Code(
    "TIP_CARINA_MOST", PRIVATE_SCHEME, "Greatest distance from tip of device to carina in patient"
)
DISTANCE_BASIS = Code("DISTANCE_BASIS", PRIVATE_SCHEME, "Basis of distance")
MODEL_SCORE = Code("MODEL_SCORE", PRIVATE_SCHEME, "Model score (uncalibrated)")
#: Share of present among the patients for whom a probability was calibrated.
PREVALENCE = Code("PREVALENCE", PRIVATE_SCHEME, "Prevalence at calibration")
OPERATING_POINT = Code("OPERATING_POINT", PRIVATE_SCHEME, "Operating point")
MALPOSITION_SCORE = Code("MALPOSITION", PRIVATE_SCHEME, "Malposition score (uncalibrated)")
MALPOSITION_PROBABILITY = Code("MALPOSITION_PROB", PRIVATE_SCHEME, "Probability of malposition")
MALPOSITION_PREVALENCE = Code("MALPOSITION_PREV", PRIVATE_SCHEME, "Prevalence of malposition at calibration")
COURSE_SCORE = Code("COURSE_SCORE", PRIVATE_SCHEME, "Score of course of device (uncalibrated)")
EVALUATED_REGION = Code("EVALUATED_REGION", PRIVATE_SCHEME, "Evaluated region")

PRESENCE = Code("PRESENCE", PRIVATE_SCHEME, "Presence of finding")
PRESENT = Code("52101004", "SCT", "Present")
UNDETERMINED = Code("373068000", "SCT", "Undetermined")
ABSENT = Code("272519000", "SCT", "Absent")
ACTIONABLE_FINDING = Code("ACTIONABLE", PRIVATE_SCHEME, "Actionable finding category")

_SEGMENTS: dict[Segment, tuple[Code, tuple[float, float, float]]] = {
    Segment.RIGHT_LUNG: (Code("3341006", "SCT", "Right lung"), (70.0, -40.0, -10.0)),
    Segment.LEFT_LUNG: (Code("44029006", "SCT", "Left lung"), (70.0, -10.0, -40.0)),
    Segment.HEART: (HEART, (65.0, 45.0, -45.0)),
    Segment.CLAVICLES: (Code("51299004", "SCT", "Clavicle"), (80.0, 5.0, 25.0)),
    Segment.RIBS: (Code("113197003", "SCT", "Rib"), (70.0, 5.0, 15.0)),
    # Of lines that cross each other: apart in hue, and for most who do not see hues in lightness or blue.
    Segment.ENDOTRACHEAL_TUBE: (Device.ENDOTRACHEAL_TUBE.code, (85.0, 0.0, 80.0)),
    Segment.NASOGASTRIC_TUBE: (Device.NASOGASTRIC_TUBE.code, (75.0, 50.0, 0.0)),
    Segment.CENTRAL_VENOUS_CATHETER: (Device.CENTRAL_VENOUS_CATHETER.code, (88.0, -35.0, -20.0)),
}


class RejectionReason(StrEnum):
    """Why instances are not to be used any more (PS3.16 CID 7031); the value is the code's.

    Document title of a Key Object Selection that is a rejection note (IHE RAD TF-3 4.66, Imaging Object Change
    Management). The most serious first.
    """

    PATIENT_SAFETY = "113037"
    INCORRECT_WORKLIST_ENTRY = "113038"
    QUALITY = "113001"
    RETENTION_EXPIRED = "113039"

    @property
    def code(self) -> Code:
        return _REJECTION_REASONS[self]


_REJECTION_REASONS = {
    RejectionReason.PATIENT_SAFETY: Code("113037", "DCM", "Rejected for Patient Safety Reasons"),
    RejectionReason.INCORRECT_WORKLIST_ENTRY: Code("113038", "DCM", "Incorrect Modality Worklist Entry"),
    RejectionReason.QUALITY: Code("113001", "DCM", "Rejected for Quality Reasons"),
    RejectionReason.RETENTION_EXPIRED: Code("113039", "DCM", "Data Retention Policy Expired"),
}
