"""Whether a tube or line lies well: from the measured distance and the class head together, both of them reported.

Called by workers/tubes.py. The limits and their sources: workers/tube_limits.py. Why so: docs/decisions/017.
"""

import math
from dataclasses import dataclass

from schemas.codes import DistanceBasis, TubePosition
from schemas.result import TipToCarina
from workers.tube_limits import ADULT_AGE_YEARS, TubeLimits, endotracheal_limits
from workers.tube_limits import BORDERLINE_MM as BORDERLINE_MM
from workers.tube_limits import NORMAL_RANGE_MM as NORMAL_RANGE_MM

_BASIS = {
    DistanceBasis.CALIBRATED: "calibrated",
    DistanceBasis.MAGNIFICATION_CORRECTED: "corrected for the estimated magnification",
    DistanceBasis.DETECTOR_PLANE: "in the detector plane, so less in the patient",
}


@dataclass(frozen=True)
class PositionJudgement:
    #: None when nobody can tell.
    position: TubePosition | None
    #: English, with the numbers of both: what was measured, and what the class head says.
    reason: str


def tube_position(
    tip_to_carina: TipToCarina | None,
    malposition_score: float | None,
    malposition_operating_point: float | None,
    age_years: float | None = None,
) -> PositionJudgement:
    """The position of an endotracheal tube that is present. Total: any input has an answer.

    `tip_to_carina` is None when the tip or the carina was not located; the scores (0..1) are None when the bundle has
    no such class; `age_years` is None when the header does not say it: then adults' limits are taken, and it says so.

    - The distance says normal, borderline or abnormal by the limits of the age (`endotracheal_limits`). Where it is
      known only as a range and the range reaches over a limit, it says borderline.
    - The class head says abnormal or not. Abnormal is what both call so. Where one says abnormal and the other does
      not, they disagree, which is borderline. A tip below the carina is abnormal whatever the head says: one lung
      may not be ventilated, and no age, no scale and no position of the neck explains it.
    - Without millimetres (and with the tip above the carina) the class head alone decides; without tip or carina
      between incompletely imaged and borderline. Without a class head the distance alone decides; without either the
      tube counts as incompletely imaged.
    """
    flagged = _flagged(malposition_score, malposition_operating_point)
    says = _what_the_head_says(flagged, malposition_score, malposition_operating_point)
    if tip_to_carina is None:
        return _not_located(flagged, f"The tip or the carina could not be located, and {says}.")

    millimetres = tip_to_carina.millimetres
    measured = millimetres is not None and math.isfinite(millimetres)
    if tip_to_carina.pixels < 0:
        words = "The tip is below the carina (no pixel spacing)"
        if millimetres is not None and measured:
            words = _measured(tip_to_carina, millimetres, age_years)[1]
        joined = "although" if flagged is False else "and"
        return PositionJudgement(TubePosition.ABNORMAL, f"{words}, {joined} {says}: below it a tip lies in a bronchus.")
    if millimetres is not None and measured:
        return _together(*_measured(tip_to_carina, millimetres, age_years), flagged, says)
    if flagged is None:
        position = TubePosition.INCOMPLETELY_IMAGED
    else:
        position = TubePosition.ABNORMAL if flagged else TubePosition.NORMAL
    return PositionJudgement(position, f"The image has no pixel spacing, so no distance was judged, and {says}.")


def position_by_class(
    tip_located: bool | None, malposition_score: float | None, malposition_operating_point: float | None
) -> PositionJudgement:
    """The position of a device without a distance to measure: what the class head says, and nothing where it says none.

    `tip_located` is None when the bundle does not look for the tip. One that was looked for in vain is never called
    abnormal, and never normal either.
    """
    flagged = _flagged(malposition_score, malposition_operating_point)
    says = _what_the_head_says(flagged, malposition_score, malposition_operating_point)
    if tip_located is False:
        return _not_located(flagged, f"The tip could not be located, and {says}.")
    if flagged is None:
        return PositionJudgement(None, f"Its position was not judged: {says}.")
    position = TubePosition.ABNORMAL if flagged else TubePosition.NORMAL
    return PositionJudgement(position, f"No distance is measured for this device: {says}.")


def _not_located(flagged: bool | None, reason: str) -> PositionJudgement:
    # What nobody can point at on the image is a reason to look soon, not an alarm.
    return PositionJudgement(TubePosition.BORDERLINE if flagged else TubePosition.INCOMPLETELY_IMAGED, reason)


def _together(position: TubePosition, measured: str, flagged: bool | None, says: str) -> PositionJudgement:
    if flagged is None or flagged is (position is TubePosition.ABNORMAL):
        return PositionJudgement(position, f"{measured}, and {says}.")
    return PositionJudgement(TubePosition.BORDERLINE, f"{measured}, but {says}: the two disagree.")


def _measured(distance: TipToCarina, millimetres: float, age_years: float | None) -> tuple[TubePosition, str]:
    """What the distance alone says, and the words for it."""
    limits = endotracheal_limits(age_years)
    side = "above" if millimetres >= 0 else "below"
    basis = _BASIS.get(distance.basis, "basis unknown")
    ends = [each for each in (distance.lowest_millimetres, distance.highest_millimetres) if each is not None]
    verdicts = {_by_distance(each, limits) for each in ends or [millimetres]}
    measured = f"The tip is {abs(millimetres):.1f} mm {side} the carina ({basis}"
    if ends:
        low, high = sorted(map(abs, ends))
        measured += f": {low:.1f} to {high:.1f} mm"
    measured += f"; {_normal(limits, age_years)})"
    if len(verdicts) > 1:
        # The range reaches over a limit.
        return TubePosition.BORDERLINE, f"{measured}, which does not settle it"
    return verdicts.pop(), measured


def _normal(limits: TubeLimits, age_years: float | None) -> str:
    span = f"{limits.low:.0f} to {limits.high:.0f} mm"
    if age_years is None:
        return f"normal in adults: {span}; the patient's age is not known"
    if age_years >= ADULT_AGE_YEARS:
        return f"normal in adults: {span}"
    # Completed years and months, as people count them.
    age = f"{int(age_years)} years" if age_years >= 2 else f"{int(age_years * 12 + 1e-6)} months"
    return f"normal at {age}: {span}, the range of adults scaled to the length of the trachea"


def _by_distance(millimetres: float, limits: TubeLimits) -> TubePosition:
    outside = max(limits.low - millimetres, millimetres - limits.high)
    if outside <= 0:
        return TubePosition.NORMAL
    # At any age the margin ends above the carina: below it a tip lies in a bronchus.
    return TubePosition.BORDERLINE if outside <= limits.borderline else TubePosition.ABNORMAL


def _flagged(score: float | None, operating_point: float | None) -> bool | None:
    if score is None or operating_point is None or math.isnan(score):
        return None
    return score >= operating_point


def _what_the_head_says(flagged: bool | None, score: float | None, operating_point: float | None) -> str:
    if flagged is None:
        return "the model gives no score for malposition"
    relation = "reaches" if flagged else "stays below"
    return f"the model's malposition score {score:.2f} {relation} its operating point {operating_point:.2f}"
