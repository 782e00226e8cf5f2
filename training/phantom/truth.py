"""What a phantom is: its image and the truth of everything that was drawn."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from schemas.codes import Finding, TubePosition
from schemas.result import Point


class View(StrEnum):
    """View Position (0018,5101) of the phantom."""

    PA = "PA"
    AP = "AP"
    LATERAL = "LL"


class Family(StrEnum):
    """Two sets of parameters: habitus, noise, detector and makes of device of the second are never trained on."""

    TRAINING = "training"
    FROZEN = "frozen"


class Structure(StrEnum):
    """What a phantom has a mask of.

    Lungs include what lies behind heart, effusion and opacity; they end at the spine's edge and at the visible dome,
    as human annotators draw them.
    """

    RIGHT_LUNG = "right_lung"
    LEFT_LUNG = "left_lung"
    HEART = "heart"
    CLAVICLES = "clavicles"
    RIBS = "ribs"


class DeviceKind(StrEnum):
    """Devices that are drawn as 3-D curves."""

    ENDOTRACHEAL_TUBE = "endotracheal_tube"
    NASOGASTRIC_TUBE = "nasogastric_tube"
    CENTRAL_VENOUS_CATHETER = "central_venous_catheter"
    PULMONARY_ARTERY_CATHETER = "pulmonary_artery_catheter"
    CHEST_TUBE = "chest_tube"
    PACEMAKER = "pacemaker"
    ECG_LEADS = "ecg_leads"


@dataclass(frozen=True, eq=False)
class DeviceTruth:
    """One device as drawn and projected."""

    kind: DeviceKind
    #: float32 [points, 2], image pixel coordinates (x, y) as in SCOORD, from where it enters to its end; only what
    #: lies on the image, so empty when nothing does.
    course: NDArray[np.float32]
    #: Half the width of the projected device in mm, for masks.
    radius_mm: float
    #: The end of the course; None when it lies outside of the image.
    tip: Point | None
    #: By the rule of its kind (training/phantom/position_rules.py); INCOMPLETELY_IMAGED when the tip lies outside of
    #: the image; None for a kind that has no rule.
    position: TubePosition | None
    #: The rule's words: why the position is what it is.
    reason: str
    #: Contrast of the device against its surroundings over the noise there, in the finished image.
    contrast_to_noise: float
    #: Endotracheal tube: along the patient's long axis in mm of the patient plane, positive above the carina.
    tip_to_carina_mm: float | None = None


@dataclass(frozen=True, eq=False)
class Phantom:
    """One simulated radiograph with its truth. Masks are bool [rows, columns], images float32 [rows, columns] 0..1."""

    seed: int
    family: Family
    #: MONOCHROME2 sense (bone bright).
    image: NDArray[np.float32]
    view: View
    age_years: float
    #: Patient's Sex (0010,0040): F or M.
    sex: str
    #: Axial rotation of the patient and turn in the image plane, degrees.
    rotation_degrees: float
    turn_degrees: float
    #: 0 (full expiration) to 1 (full inspiration).
    inspiration: float
    #: Imager Pixel Spacing (0018,1164), both directions, in the plane of the detector.
    imager_mm_per_pixel: float
    #: Estimated Radiographic Magnification Factor (0018,1114) at the carina.
    magnification: float
    #: Only those of the view; a lateral view has no heart of its own side and so on: what is missing is unknown.
    masks: dict[Structure, NDArray[np.bool_]]
    findings: frozenset[Finding]
    #: The findings that a phantom can show and that were looked for here: the rest is unknown, not absent.
    answered: frozenset[Finding]
    #: Where a finding that has a place of its own is.
    finding_masks: dict[Finding, NDArray[np.bool_]]
    #: "carina", "larynx", "right_apex", "left_apex", "right_costophrenic", "left_costophrenic", "aortic_arch", ...
    landmarks: dict[str, Point]
    devices: tuple[DeviceTruth, ...]
    #: Jewellery, buttons, clips, markers, cables outside of the patient: what must not be taken for a device.
    foreign_objects: int
    #: The same film without bones, and without nodules; None unless asked for.
    bone_free: NDArray[np.float32] | None = field(default=None, repr=False)
    nodule_free: NDArray[np.float32] | None = field(default=None, repr=False)

    def device(self, kind: DeviceKind) -> DeviceTruth | None:
        """The first device of its kind."""
        return next((each for each in self.devices if each.kind is kind), None)
