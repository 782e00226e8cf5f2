"""Where the tip of an endotracheal tube belongs above the carina, by age: the clinical limits that results state.

Read by workers/tube_position.py and by the phantom, which draws tubes on both sides of the same limits.

Sources:
- Adults: Goodman LR, Conrardy PA, Laing F, Singer MM. Radiographic evaluation of endotracheal tube position. AJR
  1976;127:433-434: the tip 5 cm +- 2 cm above the carina, neck in neutral position; flexion and extension of the neck
  move it about 2 cm.
- Length of the trachea: Griscom NT, Wohl ME, Fenton T, Pediatr Pulmonol 1989;6:186-190 (CT, 34 children to age 6
  years): in cm 0.050 x height in cm + 1.78. Griscom NT, Wohl ME, AJR 1986;146:233-237 (CT, 130 persons): about 12 cm at
  18 to 20 years.
- Height by age: WHO growth standards 2006 and reference 2007, medians of both sexes.
- Children: Yoo SY et al., Anesth Analg 2007;105:620-625 (107 children of 2 to 8 years): tubes at 43 to 47 % of the way
  from carina to cords stay safe when the neck moves; at 21 % they slip into a bronchus in 14 %.

No study gives limits in mm for children by age. The adult range is carried over as shares of the length of the trachea,
which agrees with Yoo and with what is taught for newborns (1 to 2 cm above the carina): a convention, not a finding.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

#: Tip above carina in adults, in mm, both ends included.
NORMAL_RANGE_MM = (30.0, 70.0)
#: So far outside the normal range a tip is borderline: half of what the neck's position can explain.
BORDERLINE_MM = 10.0
#: From this age on the limits of adults hold.
ADULT_AGE_YEARS = 18.0

_ADULT_TRACHEA_MM = 120.0
#: Ages in years and heights in cm.
_AGES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0)
_HEIGHTS = (49.5, 66.5, 74.9, 87.1, 95.6, 103.0, 109.7, 115.5, 127.0, 138.2, 150.1, 161.5, 167.7, 169.6)
_SIX = _AGES.index(6.0)


@dataclass(frozen=True)
class TubeLimits:
    """Tip above carina in mm of the patient: normal from `low` to `high`, both included; borderline so far outside."""

    low: float
    high: float
    borderline: float


def endotracheal_limits(age_years: float | None) -> TubeLimits:
    """The limits at this age; those of adults where the age is not known."""
    share = 1.0 if age_years is None else trachea_length_mm(age_years) / _ADULT_TRACHEA_MM
    return TubeLimits(NORMAL_RANGE_MM[0] * share, NORMAL_RANGE_MM[1] * share, BORDERLINE_MM * share)


def trachea_length_mm(age_years: float) -> float:
    """Median length of the trachea in mm: by height to 6 years, from there in line with height to an adult's."""
    height = height_cm(age_years)
    if age_years <= _AGES[_SIX]:
        return _length_of_a_child(height)
    heights, lengths = (_HEIGHTS[_SIX], _HEIGHTS[-1]), (_length_of_a_child(_HEIGHTS[_SIX]), _ADULT_TRACHEA_MM)
    return _between(height, heights, lengths)


def height_cm(age_years: float) -> float:
    """Median height of both sexes in cm; an adult's from 18 years."""
    return _between(age_years, _AGES, _HEIGHTS)


def _length_of_a_child(height: float) -> float:
    return 0.50 * height + 17.8


def _between(at: float, known: Sequence[float], values: Sequence[float]) -> float:
    """Linear between the known places, and the first or last value outside of them."""
    if at <= known[0]:
        return values[0]
    if at >= known[-1]:
        return values[-1]
    after = bisect_right(known, at)
    share = (at - known[after - 1]) / (known[after] - known[after - 1])
    return values[after - 1] + share * (values[after] - values[after - 1])
