"""What a phantom is: its image and the truth that was drawn."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from schemas.codes import Finding, Segment
from schemas.result import Point
from workers.tube_position import BORDERLINE_MM, NORMAL_RANGE_MM

#: Order of `Phantom.masks`.
SEGMENTS = (Segment.RIGHT_LUNG, Segment.LEFT_LUNG, Segment.HEART, Segment.ENDOTRACHEAL_TUBE)

#: Order of `Phantom.finding_masks`: the findings that have a place of their own (cardiomegaly's is the heart).
LOCALISED_FINDINGS = (Finding.PLEURAL_EFFUSION, Finding.PNEUMOTHORAX, Finding.CONSOLIDATION, Finding.NODULE)

#: What to draw: a tube within the normal range, one beyond the borderline zone, none, or whatever the seed says.
TubeChoice = Literal["well-placed", "malpositioned", "absent", "any"]


@dataclass(frozen=True)
class TubeTruth:
    """An endotracheal tube as drawn."""

    #: float32 [points, 2], image pixel coordinates (x, y) as in SCOORD, from the upper end to the tip.
    course: NDArray[np.float32]
    #: (carina.y - tip.y) times mm per pixel: along the image's rows axis, positive above the carina.
    tip_to_carina_mm: float

    @property
    def tip(self) -> Point:
        return Point(x=float(self.course[-1, 0]), y=float(self.course[-1, 1]))

    @property
    def malpositioned(self) -> bool:
        """True beyond the borderline zone on either side of the normal range (adult, neutral neck)."""
        return is_malpositioned(self.tip_to_carina_mm)


@dataclass(frozen=True)
class Phantom:
    """One simulated radiograph with its truth."""

    seed: int
    #: float32 [rows, columns], 0..1, MONOCHROME2 sense (bone bright).
    image: NDArray[np.float32]
    #: bool [4, rows, columns] in the order of `SEGMENTS`; lungs include what lies behind heart, effusion and opacity.
    masks: NDArray[np.bool_]
    findings: frozenset[Finding]
    #: bool [4, rows, columns] in the order of `LOCALISED_FINDINGS`; empty where the finding is absent.
    finding_masks: NDArray[np.bool_]
    tube: TubeTruth | None
    carina: Point
    #: Side length of a pixel in mm, both directions.
    mm_per_pixel: float
    view_position: Literal["PA", "AP"]


def is_malpositioned(tip_to_carina_mm: float) -> bool:
    """True when the distance lies outside the normal range by more than the borderline width."""
    low, high = NORMAL_RANGE_MM
    return not low - BORDERLINE_MM <= tip_to_carina_mm <= high + BORDERLINE_MM
