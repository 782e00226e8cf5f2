"""Where a device has to lie: one rule per kind, with its source and the population that it was made for.

Called by the files that draw devices: the phantom judges by these what it draws.

Sources, by short name:
- Goodman 1976, Griscom 1986 and 1989, Yoo 2007: see workers/tube_limits.py, whose limits for adults and children judge
  endotracheal tubes here too.
- Mahlon 2007: Mahlon, Yoon, JVIR 18:1106-1110 (CT, 112 adults): superior vena cava 71 mm +- 14 mm long, cavoatrial
  junction 40 mm +- 14 mm below the carina. Song 2015, Br J Anaesth 115:252-257 (524 adults): 54 mm +- 10 mm. Readers
  place the junction on a radiograph with limits of agreement of about 2 cm (Br J Radiol 2016, PMC5124912).
- Godoy 2012, AJR 198:563-571 (airway, enteric and pleural tubes) and 572-581 (cardiovascular lines): reviews, known
  here from summaries; Khan 2009, Ann Thorac Med 4:75-87 (PMC2700481): instruments in the critically ill.
- Nasogastric tubes: PMC3919749 (30 adults, CT): tubes laid by the usual estimate leave side holes above the junction in
  29; 10 cm beyond it takes them in. Crit Care 2023;27:317: others accept tips 3 to 10 cm beyond it.
- Pulmonary artery catheters: within 2 cm of the hilum is what is taught; of 314 tips, 5 % lay 9 cm or more beside the
  midline (Anesthesiology 1977;46:336-337).

What is uncertain: margins in mm are adults'; in children they shrink with body height, a convention of this phantom
(Hirschl 2020, Pediatr Surg Int: in 584 children the junction lies 1.25 to 1.64 vertebral bodies below the carina).
"""

from dataclasses import dataclass
from enum import Enum

from schemas.codes import TubePosition
from workers.tube_limits import ADULT_AGE_YEARS, BORDERLINE_MM, endotracheal_limits, height_cm

_CENTRAL_VENOUS_BORDERLINE_MM = 10.0
_SHORT_OF_CAVA_MM = 20.0
_BEYOND_HILUM_MM = 20.0
_BELOW_GASTRIC_INLET_MM = 100.0
_INSIDE_CHEST_WALL_MM = 10.0


class Lies(Enum):
    """The hollow that a tip lies in, as far as a rule asks."""

    TRACHEA = "the trachea"
    RIGHT_BRONCHUS = "the right main bronchus"
    LEFT_BRONCHUS = "the left main bronchus"
    OESOPHAGUS = "the oesophagus"
    STOMACH = "the stomach"
    BRACHIOCEPHALIC_VEIN = "the brachiocephalic vein"
    OTHER_VEIN = "a vein that does not lead to the heart from here"
    SUPERIOR_VENA_CAVA = "the superior vena cava"
    RIGHT_ATRIUM = "the right atrium"
    RIGHT_VENTRICLE = "the right ventricle"
    PULMONARY_ARTERY = "the pulmonary artery"


@dataclass(frozen=True)
class Judgement:
    """A position and why, in words with the numbers."""

    position: TubePosition
    reason: str


def body_share(age_years: float) -> float:
    """Body height as a share of an adult's: what lengths without a rule of their own shrink by in children."""
    return height_cm(age_years) / height_cm(ADULT_AGE_YEARS)


def endotracheal_position(tip_to_carina_mm: float, lies: Lies, age_years: float) -> Judgement:
    """Goodman 1976 in adults; in children the same shares of the tracheal length. In the oesophagus always abnormal.

    `tip_to_carina_mm` is along the patient's long axis, positive above the carina.
    """
    if lies is Lies.OESOPHAGUS:
        return Judgement(TubePosition.ABNORMAL, "The tube lies in the oesophagus.")
    limits = endotracheal_limits(age_years)
    outside = max(limits.low - tip_to_carina_mm, tip_to_carina_mm - limits.high)
    position = _within(outside, limits.borderline)
    if tip_to_carina_mm < 0 and position is not TubePosition.ABNORMAL:
        # In small children the margin would reach below the carina.
        position = TubePosition.ABNORMAL
    where = "above the carina" if tip_to_carina_mm >= 0 else f"below the carina, in {lies.value}"
    age = f"{age_years:.0f} years" if age_years >= 2 else f"{12 * age_years:.0f} months"
    population = "adults" if age_years >= ADULT_AGE_YEARS else f"children of {age}"
    return Judgement(
        position,
        f"The tip is {abs(tip_to_carina_mm):.0f} mm {where}; "
        f"normal in {population}: {limits.low:.0f} to {limits.high:.0f} mm above it.",
    )


def nasogastric_position(beyond_inlet_mm: float, lies: Lies, coiled: bool, age_years: float) -> Judgement:
    """Godoy 2012, Khan 2009: tip and side holes in the stomach, so the tip 10 cm or more beyond its inlet; adults.

    Less than 10 cm is borderline and not abnormal, because others accept it (Crit Care 2023).
    `beyond_inlet_mm` is along the tube from the oesophagogastric junction to the tip, negative above it.
    """
    if lies in (Lies.RIGHT_BRONCHUS, Lies.LEFT_BRONCHUS, Lies.TRACHEA):
        return Judgement(TubePosition.ABNORMAL, f"The tip lies in {lies.value}.")
    if coiled:
        return Judgement(TubePosition.ABNORMAL, "The tube is coiled in the oesophagus.")
    needed = _BELOW_GASTRIC_INLET_MM * body_share(age_years)
    if beyond_inlet_mm < 0:
        return Judgement(TubePosition.ABNORMAL, f"The tip ends {-beyond_inlet_mm:.0f} mm above the stomach's inlet.")
    said = f"The tip lies {beyond_inlet_mm:.0f} mm beyond the stomach's inlet; {needed:.0f} mm take the side holes in."
    return Judgement(TubePosition.NORMAL if beyond_inlet_mm >= needed else TubePosition.BORDERLINE, said)


def central_venous_position(
    above_junction_mm: float, short_of_cava_mm: float, lies: Lies, age_years: float
) -> Judgement:
    """Mahlon 2007, Song 2015, Godoy 2012: the tip in the superior vena cava; adults.

    At the cavoatrial junction it is borderline, since readers differ by 2 cm about its place; so it is just short of
    the cava; anywhere else it is abnormal.

    `above_junction_mm` is the tip's distance from the cavoatrial junction along the vein, negative in the atrium;
    `short_of_cava_mm` how far before the beginning of the cava it ends, 0 inside it.
    """
    share = body_share(age_years)
    if lies is Lies.OTHER_VEIN:
        return Judgement(TubePosition.ABNORMAL, f"The tip lies in {lies.value}.")
    if short_of_cava_mm > 0:
        near = short_of_cava_mm <= _SHORT_OF_CAVA_MM * share
        said = f"The tip ends {short_of_cava_mm:.0f} mm before the superior vena cava, in {lies.value}."
        return Judgement(TubePosition.BORDERLINE if near else TubePosition.ABNORMAL, said)
    margin = _CENTRAL_VENOUS_BORDERLINE_MM * share
    place = "above" if above_junction_mm >= 0 else "below"
    said = f"The tip lies {abs(above_junction_mm):.0f} mm {place} the cavoatrial junction, in {lies.value}."
    if abs(above_junction_mm) <= margin:
        return Judgement(TubePosition.BORDERLINE, said)
    return Judgement(TubePosition.NORMAL if above_junction_mm > 0 else TubePosition.ABNORMAL, said)


def pulmonary_artery_position(beyond_hilum_mm: float, lies: Lies, age_years: float) -> Judgement:
    """Godoy 2012: the tip in the main, right or left pulmonary artery, no further than 2 cm beyond the hilum; adults.

    `beyond_hilum_mm` is along the artery from the hilum, negative before it.
    """
    if lies is not Lies.PULMONARY_ARTERY:
        return Judgement(TubePosition.ABNORMAL, f"The tip lies in {lies.value}, short of the pulmonary artery.")
    share = body_share(age_years)
    place = "beyond" if beyond_hilum_mm > 0 else "inside"
    greatest = _BEYOND_HILUM_MM * share
    said = f"The tip lies {abs(beyond_hilum_mm):.0f} mm {place} the hilum; up to {greatest:.0f} mm beyond is normal."
    return Judgement(_within(beyond_hilum_mm - greatest, BORDERLINE_MM * share), said)


def chest_tube_position(side_hole_inside_mm: float, age_years: float) -> Judgement:
    """Godoy 2012, Khan 2009: every side hole inside the pleural space; the last one is the gap in the stripe; adults.

    `side_hole_inside_mm` is along the tube from where it passes the inner chest wall to the last side hole; less than
    1 cm counts as borderline because breathing moves the wall.
    """
    if side_hole_inside_mm < 0:
        said = f"The last side hole lies {-side_hole_inside_mm:.0f} mm outside of the pleural space."
        return Judgement(TubePosition.ABNORMAL, said)
    said = f"The last side hole lies {side_hole_inside_mm:.0f} mm inside the pleural space."
    inside = side_hole_inside_mm >= _INSIDE_CHEST_WALL_MM * body_share(age_years)
    return Judgement(TubePosition.NORMAL if inside else TubePosition.BORDERLINE, said)


def _within(outside_mm: float, margin_mm: float) -> TubePosition:
    if outside_mm <= 0:
        return TubePosition.NORMAL
    return TubePosition.BORDERLINE if outside_mm <= margin_mm else TubePosition.ABNORMAL
