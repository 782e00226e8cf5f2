"""Whether an endotracheal tube lies well: the one clinical rule of tubes, for adults with the neck in neutral position.

Source: Goodman LR, Conrardy PA, Laing F, Singer MM. Radiographic evaluation of endotracheal tube position.
AJR 1976;127:433-434: the tip 5 cm +- 2 cm above the carina; flexion and extension of the neck move it about 2 cm.
"""

import math
from dataclasses import dataclass

from schemas.codes import DistanceBasis, TubePosition
from schemas.result import TipToCarina

#: Tip above carina, in mm, both ends included.
NORMAL_RANGE_MM = (30.0, 70.0)
#: So far outside the normal range a tip is borderline: half of what the neck's position can explain.
BORDERLINE_MM = 10.0

_BASIS = {
    DistanceBasis.CALIBRATED: "calibrated",
    DistanceBasis.MAGNIFICATION_CORRECTED: "corrected for the estimated magnification",
    DistanceBasis.DETECTOR_PLANE: "in the detector plane, so less in the patient",
}


@dataclass(frozen=True)
class PositionJudgement:
    position: TubePosition
    #: One English sentence with the numbers.
    reason: str


def tube_position(
    tip_to_carina: TipToCarina | None, malposition_score: float | None, malposition_operating_point: float | None
) -> PositionJudgement:
    """The position of a tube that is present. Total: any input has an answer.

    `tip_to_carina` is None when the tip or the carina was not located; the scores (0..1) are None when the bundle has
    no such class.

    - With millimetres the distance decides: normal in NORMAL_RANGE_MM, borderline up to BORDERLINE_MM outside,
      abnormal beyond. A class head that says "malpositioned" makes it one step worse (normal to borderline, borderline
      to abnormal) and never better: it may see what the distance cannot (a tube in the oesophagus), so it keeps a tube
      from being called normal; it does not outvote a measurement altogether; its silence does not excuse a distance.
    - Without millimetres a tip below the carina is abnormal; it is so at any scale.
    - Otherwise without millimetres the class head alone decides between normal and abnormal; without tip or carina
      between incompletely imaged and borderline. Without a class head either, the tube counts as incompletely imaged.
    """
    flagged = _flagged(malposition_score, malposition_operating_point)
    says = _what_the_head_says(flagged, malposition_score, malposition_operating_point)

    millimetres = None if tip_to_carina is None else tip_to_carina.millimetres
    if tip_to_carina is not None and millimetres is not None and math.isfinite(millimetres):
        position = _by_distance(millimetres)
        if flagged:
            position = TubePosition.BORDERLINE if position is TubePosition.NORMAL else TubePosition.ABNORMAL
        side = "above" if millimetres >= 0 else "below"
        basis = _BASIS.get(tip_to_carina.basis, "basis unknown")
        low, high = NORMAL_RANGE_MM
        measured = f"The tip is {abs(millimetres):.1f} mm {side} the carina ({basis}"
        return PositionJudgement(position, f"{measured}; normal in adults: {low:.0f} to {high:.0f} mm), and {says}.")

    if tip_to_carina is not None and tip_to_carina.pixels < 0:
        # In a bronchus at any scale.
        return PositionJudgement(TubePosition.ABNORMAL, f"The tip is below the carina (no pixel spacing), and {says}.")
    if tip_to_carina is None:
        # What nobody can point at on the image is a reason to look soon, not an alarm.
        position = TubePosition.BORDERLINE if flagged else TubePosition.INCOMPLETELY_IMAGED
        return PositionJudgement(position, f"The tip or the carina could not be located, and {says}.")
    if flagged is None:
        position = TubePosition.INCOMPLETELY_IMAGED
    else:
        position = TubePosition.ABNORMAL if flagged else TubePosition.NORMAL
    return PositionJudgement(position, f"The image has no pixel spacing, so no distance was judged, and {says}.")


def _by_distance(millimetres: float) -> TubePosition:
    low, high = NORMAL_RANGE_MM
    outside = max(low - millimetres, millimetres - high)
    if outside <= 0:
        return TubePosition.NORMAL
    return TubePosition.BORDERLINE if outside <= BORDERLINE_MM else TubePosition.ABNORMAL


def _flagged(score: float | None, operating_point: float | None) -> bool | None:
    if score is None or operating_point is None or math.isnan(score):
        return None
    return score >= operating_point


def _what_the_head_says(flagged: bool | None, score: float | None, operating_point: float | None) -> str:
    if flagged is None:
        return "the model gives no score for malposition"
    relation = "reaches" if flagged else "stays below"
    return f"the model's malposition score {score:.2f} {relation} its operating point {operating_point:.2f}"
