"""The courses that devices follow: airways, veins, arteries, oesophagus and stomach, the pleural space.

Called by body.py, which draws the person that they belong to.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.phantom.chains import smooth_curve
from training.phantom.shapes import LungShape, TorsoShape, lateral_border
from workers.tube_limits import trachea_length_mm

Course = NDArray[np.float64]

# Griscom NT, Wohl ME. Dimensions of the growing trachea related to age and gender. AJR 1986;146:233-237 (rounded):
# transverse diameter, mm. Its length is that of workers/tube_limits.py.
_TRACHEA_AGES = (0.0, 1.0, 3.0, 5.0, 9.0, 13.0, 17.0, 19.0)
_TRACHEA_DIAMETER = (5.5, 6.4, 8.1, 9.0, 11.0, 13.5, 16.0, 17.5)


@dataclass(frozen=True, eq=False)
class Side:
    """What both sides have. Courses are float64 [points, 3], patient mm."""

    #: -1 for the right side, 1 for the left: the sign of x.
    sign: float
    lung: LungShape
    #: Main bronchus and the way on to the lower lobe, from the carina; and its radius along it, mm.
    bronchus: Course
    bronchus_radius: NDArray[np.float64]
    #: From the jaw down to the confluence with the subclavian vein.
    internal_jugular: Course
    #: From the upper arm (basilic vein) through the axilla to the confluence: a PICC starts at its first point, a
    #: subclavian catheter about two thirds along it.
    subclavian: Course
    #: From the confluence to where both meet as superior vena cava.
    brachiocephalic: Course
    #: From the pulmonary trunk to the lower lobe.
    pulmonary_artery: Course
    #: On the skin at the side of the chest, from the armpit downwards.
    flank: Course
    #: Between lung and chest wall, from the lowest point at the side up and backwards to the apex.
    pleura: Course
    #: Where vessels and bronchi enter the lung, float64 [3].
    hilum: Course


def trachea_radius_mm(age_years: float) -> float:
    """Mean of both sexes."""
    return 0.5 * float(np.interp(age_years, _TRACHEA_AGES, _TRACHEA_DIAMETER))


def draw_airways(rng: np.random.Generator, age_years: float, length: float, girth: float) -> list[Course]:
    """Trachea, right and left bronchus."""
    reach = trachea_length_mm(age_years) * rng.normal(1, 0.06)
    bow, top = rng.normal(-3, 2.5) * girth, rng.normal(0, 3) * girth
    trachea = smooth_curve(
        [
            (top, -reach, -34 * girth),
            (0.7 * top + 0.2 * bow, -0.7 * reach, -25 * girth),
            (0.3 * top + bow, -0.32 * reach, -11 * girth),
            (0.6 * bow, -0.1 * reach, -3 * girth),
            (0, 0, 0),
        ],
        80,
    )
    # The right bronchus leaves at 25 degrees from the long axis, the left at 45.
    right, left = np.tan(np.radians([rng.normal(26, 4), rng.normal(44, 5)]))
    scale = np.array([girth, length, girth])
    right_bronchus = smooth_curve(
        [(0, 0, 0), (-22 * right, 22, 3), (-50 * right, 50, 10), (-62 * right - 4, 78, 18)] * scale, 32
    )
    left_bronchus = smooth_curve(
        [(0, 0, 0), (22 * left, 22, 6), (46 * left, 46, 13), (54 * left + 2, 74, 24)] * scale, 32
    )
    return [trachea, right_bronchus, left_bronchus]


def draw_superior_vena_cava(rng: np.random.Generator, length: float, girth: float, ratio: float) -> Course:
    """Superior vena cava, knots [4, 3]: it ends 4 cm below the carina.

    Mahlon MA, Yoon HC. CT angiography of the superior vena cava: normative values and implications for central venous
    catheter position. J Vasc Interv Radiol 2007;18:1106-1110: cavoatrial junction 4.0 cm below the carina.
    """
    scale = np.array([girth, length, girth])
    out = rng.normal(-24, 2)
    top = rng.normal(-38, 4)
    end = rng.normal(40, 4)
    knots = [
        (out, top, -26),
        (out - 1, 0.5 * top, -25),
        (out - 2, 0.4 * end, -23),
        (out - 2 - 8 * (ratio - 0.45), end, -21),
    ]
    return np.asarray(np.array(knots) * scale)


def draw_side(
    rng: np.random.Generator,
    lung: LungShape,
    bronchus: Course,
    trachea_radius: float,
    cava: Course,
    torso: TorsoShape,
    length: float,
    girth: float,
) -> Side:
    """What both sides have; `cava` are the knots of the superior vena cava, `length` and `girth` relative to adults."""
    sign = lung.sign
    scale = np.array([girth, length, girth])
    across = np.array([sign, 1, 1]) * scale
    confluence = np.array([27 + rng.normal(0, 2), -68 + rng.normal(0, 4), -30]) * across
    jugular = smooth_curve(
        [
            np.array([44, -185, -8]) * across,
            np.array([40, -140, -16]) * across,
            np.array([33, -95, -24]) * across,
            confluence,
        ],
        40,
    )
    under = np.array([54 + rng.normal(0, 3), -79 + rng.normal(0, 4), -33]) * across
    subclavian = smooth_curve(
        [
            np.array([torso.half_width * 1.16, 70 * length, 4 * girth]) * [sign, 1, 1],
            np.array([torso.half_width * 1.08, 10 * length, 4 * girth]) * [sign, 1, 1],
            np.array([122, -42 + rng.normal(0, 5), -10]) * across,
            np.array([92, -68 + rng.normal(0, 4), -24]) * across,
            under,
            confluence,
        ],
        64,
    )
    top = cava[0]
    if sign < 0:
        brachiocephalic = smooth_curve([confluence, 0.5 * (confluence + top) + [0.5 * girth, 0, 0], top], 16)
    else:
        middle = np.array([0, -58 + rng.normal(0, 3), -40]) * scale
        brachiocephalic = smooth_curve([confluence, middle, top], 24)
    trunk = np.array([19, 20, -30]) * scale
    hilum = np.array([(36 if sign < 0 else 40), (20 if sign < 0 else 10) + rng.normal(0, 2), 6]) * across
    if sign < 0:
        artery = [trunk, np.array([4, 12, -14]) * scale, np.array([-20, 13, -3]) * scale, hilum]
    else:
        artery = [trunk, np.array([28, 10, -14]) * scale, hilum]
    down = hilum + np.array([14, 42, 14]) * across
    levels = np.linspace(-20 * length, lung.dome + 0.8 * lung.drop, 24)
    flank = np.stack([np.full(24, sign * 0.985 * torso.half_width), levels, np.full(24, torso.centre_z)], axis=1)
    return Side(
        sign=sign,
        lung=lung,
        bronchus=bronchus,
        bronchus_radius=np.linspace(0.78, 0.42, len(bronchus)) * trachea_radius,
        internal_jugular=jugular,
        subclavian=subclavian,
        brachiocephalic=brachiocephalic,
        pulmonary_artery=smooth_curve([*artery, down], 40),
        flank=flank,
        pleura=_pleura(lung),
        hilum=hilum,
    )


def _pleura(lung: LungShape) -> Course:
    """Along the inside of the chest wall, 3 mm within it, from the side upwards and backwards to the apex."""
    levels = np.linspace(lung.dome + 0.25 * lung.drop, lung.apex + 0.06 * (lung.dome - lung.apex), 40)
    back = np.linspace(0.0, 0.55, 40)
    points = []
    for y, share in zip(levels, back, strict=True):
        wide = lateral_border(lung, y) - 3
        across = wide * (1 - share**lung.squareness) ** (1 / lung.squareness)
        points.append((lung.sign * max(across, 0.7 * lung.apex_x), y, lung.centre_z + share * lung.depth))
    return np.array(points)


def draw_oesophagus(
    rng: np.random.Generator, trachea: Course, floor: float, length: float, girth: float
) -> tuple[Course, int]:
    """From the throat to the pylorus, and the index of the point in the hiatus; `floor` is y of the left dome."""
    x = rng.normal(3, 2.5)
    scale = np.array([girth, length, girth])
    top = trachea[0] + np.array([2, 0, 16]) * scale
    level = floor / length
    knots = [
        top + np.array([0, -60, 0]) * scale,
        top,
        np.array([x + 2, -55, 12]) * scale,
        np.array([x, 0, 17]) * scale,
        np.array([x + 4, 50, 12]) * scale,
        np.array([18 + rng.normal(0, 2), level + 4, 8]) * scale,
        np.array([44 + rng.normal(0, 5), level + 28, 14]) * scale,
        np.array([66 + rng.normal(0, 6), level + 66, -8]) * scale,
        np.array([42 + rng.normal(0, 8), level + 108, -26]) * scale,
        np.array([2, level + 106, -30]) * scale,
    ]
    curve = smooth_curve(knots, 118)
    return curve, round(5 / 9 * 117)
