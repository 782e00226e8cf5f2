"""One person in 3-D: sizes, the shape of lungs and heart, and the courses that devices follow.

Called by render.py; devices, rules and not_chest read its courses. Lengths of adults are scaled to children's.
"""

from dataclasses import dataclass

import numpy as np

from training.phantom.chains import smooth_curve
from training.phantom.courses import (
    Course,
    draw_airways,
    draw_oesophagus,
    draw_side,
    draw_superior_vena_cava,
    trachea_radius_mm,
)
from training.phantom.courses import Side as Side
from training.phantom.families import BodyRanges, Range, Wings
from training.phantom.shapes import LungShape, TorsoShape, half_depth
from training.phantom.truth import View

# Length T1-T12 and perimeter of the thorax as a share of the adult's. Dimeglio A, Canavese F. The growing spine:
# how spinal deformities influence normal spine and thoracic cage growth. Eur Spine J 2012;21:64-70: 11, 18, 22 and
# 26-28 cm of length at birth, 5, 10 years and maturity; perimeter 32, 56, 66 and about 86 cm.
_AGES = (0.0, 1.0, 5.0, 10.0, 16.0)
_LENGTH = (0.41, 0.50, 0.66, 0.81, 1.0)
_PERIMETER = (0.38, 0.52, 0.65, 0.77, 1.0)
# Thoracic index (depth over width): near-round in the newborn, flat in the adult (same paper).
_DEPTH_OVER_WIDTH = (1.28, 1.22, 1.10, 1.04, 1.0)


@dataclass(frozen=True, eq=False)
class Body:
    """One person. Everything in patient mm (origin carina, x to the patient's left, y to the feet, z to the back)."""

    view: View
    age_years: float
    sex: str
    #: Lengths relative to an adult of mean size: along the body.
    scale: float
    #: 0 (full expiration) to 1 (full inspiration).
    inspiration: float
    supine: bool
    torso: TorsoShape
    right: Side
    left: Side
    #: Larynx (vocal cords) to carina.
    trachea: Course
    trachea_radius: float
    #: Throat, oesophagus, stomach down to the pylorus; `oesophagus_end` is the index of the point in the hiatus.
    oesophagus: Course
    oesophagus_end: int
    #: Superior vena cava from the confluence of both brachiocephalic veins to the cavoatrial junction, then ...
    superior_vena_cava: Course
    #: ... right atrium to the tricuspid valve,
    right_atrium: Course
    #: tricuspid valve to the apex of the right ventricle (a pacemaker lead),
    right_ventricle: Course
    #: tricuspid valve through the outflow tract to the pulmonary trunk.
    outflow_tract: Course
    #: float64 [3].
    heart_centre: Course
    #: Largest width of the heart over the inner width of the thorax, as drawn (before projection).
    cardiothoracic_ratio: float

    def side(self, sign: float) -> Side:
        """The right side for a negative sign, the left one otherwise."""
        return self.right if sign < 0 else self.left

    def skin(self, x: float, y: float, *, front: bool = True) -> Course:
        """The point of the skin above (x, y), float64 [3]; at the flank where x lies beside the body."""
        wide = 0.98 * self.torso.half_width
        x = float(np.clip(x, -wide, wide))
        depth = half_depth(self.torso, x, y)
        return np.array([x, y, self.torso.centre_z + (-depth if front else depth)])


def growth(age_years: float) -> float:
    """Length of the thorax as a share of the adult's."""
    return float(np.interp(age_years, _AGES, _LENGTH))


def draw_age(rng: np.random.Generator, ranges: BodyRanges) -> float:
    """1 to 95 years."""
    child = rng.random() < ranges.children
    return float(rng.uniform(1, 16) if child else np.clip(rng.normal(58, 19), 16, 95))


def draw_body(
    rng: np.random.Generator,
    ranges: BodyRanges,
    view: View,
    age_years: float,
    *,
    cardiomegaly: bool = False,
    overinflated: bool = False,
) -> Body:
    """A person; AP means supine, with a larger heart, higher diaphragms and arms at the side."""
    supine = view is View.AP
    sex = "F" if rng.random() < 0.5 else "M"
    small = 0.94 if sex == "F" and age_years > 12 else 1.0
    length = growth(age_years) * small * _draw(rng, ranges.stature)
    girth = float(np.interp(age_years, _AGES, _PERIMETER)) * small * _draw(rng, ranges.girth)
    roundness = float(np.interp(age_years, _AGES, _DEPTH_OVER_WIDTH)) * _draw(rng, ranges.roundness)
    inspiration = float(np.clip(_draw(rng, ranges.inspiration) - 0.25 * supine, 0, 1))

    if overinflated:
        inspiration = float(rng.uniform(0.9, 1.0))
        roundness *= rng.uniform(1.08, 1.25)
    width = 139 * girth
    depth = 84 * girth * roundness
    apex = rng.normal(-92, 6) * length
    dome = (80 + 46 * inspiration + 18 * overinflated + rng.normal(0, 5)) * length
    lungs = []
    for index in range(2):
        side_dome = dome + index * rng.normal(12, 6) * length
        lungs.append(
            LungShape(
                sign=2.0 * index - 1,
                apex=apex + rng.normal(0, 2.5) * length,
                dome=side_dome,
                drop=(rng.uniform(30, 52) + 10 * inspiration) * length * (0.45 if overinflated else 1.0),
                apex_x=rng.normal(46, 3.5) * girth,
                width=width + rng.normal(0, 2.5) * girth,
                medial=rng.uniform(3, 9) * girth,
                centre_z=rng.normal(6, 3) * girth,
                depth=depth,
                back_drop=rng.uniform(45, 75) * length,
                squareness=rng.uniform(2.0, 2.7),
                bulge=rng.uniform(1.6, 2.1) + 0.5 * min(1.0, age_years / 16),
                scale=length,
            )
        )

    ratio = (
        _draw(rng, ranges.cardiothoracic_ratio) - 0.04 * overinflated + 0.05 * (age_years < 6) + 0.02 * (age_years < 10)
    )
    if cardiomegaly:
        ratio = rng.uniform(0.57, 0.70) + 0.04 * (age_years < 6)
    fat = _draw(rng, ranges.fat_mm) * girth * (0.5 + 0.5 * min(1.0, age_years / 16))
    torso = TorsoShape(
        half_width=width + fat + 20 * girth,
        half_depth=depth + 0.55 * fat + 16 * girth,
        centre_z=6 * girth - 0.1 * fat,
        shoulder=apex + rng.uniform(-38, -16) * length,
        shoulder_slope=rng.uniform(0.20, 0.42) + 0.1 * supine,
        neck_half_width=rng.normal(58, 5) * (0.35 + 0.65 * girth) + 0.15 * fat,
        belly=rng.uniform(0.03, 0.18) + 0.0015 * fat,
        breast=rng.uniform(8, 46) if sex == "F" and age_years > 13 else rng.uniform(0, 9),
        breast_x=rng.normal(82, 8) * girth,
        breast_y=rng.normal(70, 14) * length * (0.85 if supine else 1.1),
        breast_radius=rng.uniform(55, 78) * girth,
        scale=length,
    )
    airways = draw_airways(rng, age_years, length, girth)
    heart_low = dome + 6 * length
    centre = np.array(
        [
            (0.13 if age_years < 8 else 0.25) * ratio * width + rng.normal(3, 3) * girth,
            heart_low - 0.5 * ratio * width,
            -22 * girth,
        ]
    )
    veins = draw_superior_vena_cava(rng, length, girth, ratio)
    radius = trachea_radius_mm(age_years) * rng.uniform(0.88, 1.15)
    sides = [
        draw_side(rng, lung, airways[1 + index], radius, veins, torso, length, girth)
        for index, lung in enumerate(lungs)
    ]
    oesophagus, hiatus = draw_oesophagus(rng, airways[0], lungs[1].dome, length, girth)
    junction = veins[-1]
    valve = np.array([0.05, 0.0, -0.25]) * ratio * width + centre
    apex_of_heart = centre + np.array([0.62, 0.42, -0.35]) * ratio * width
    trunk = np.array([19.0, 20.0, -30.0]) * [girth, length, girth]
    return Body(
        view=view,
        age_years=age_years,
        sex=sex,
        scale=length,
        inspiration=inspiration,
        supine=supine,
        torso=torso,
        right=sides[0],
        left=sides[1],
        trachea=airways[0],
        trachea_radius=radius,
        oesophagus=oesophagus,
        oesophagus_end=hiatus,
        superior_vena_cava=smooth_curve(veins, 24),
        right_atrium=smooth_curve([junction, 0.5 * (junction + valve) + [-0.12 * ratio * width, 6 * length, 0], valve]),
        right_ventricle=smooth_curve([valve, 0.5 * (valve + apex_of_heart) + [0, 8 * length, 0], apex_of_heart]),
        outflow_tract=smooth_curve(
            [
                valve,
                valve + np.array([24, 8, -18]) * girth,
                0.5 * (valve + trunk) + np.array([20, 0, -14]) * girth,
                trunk,
            ]
        ),
        heart_centre=centre,
        cardiothoracic_ratio=float(ratio),
    )


def _draw(rng: np.random.Generator, limits: Range | Wings) -> float:
    """Normal within limits: two standard deviations reach them."""
    return limits.at(float(np.clip(rng.normal(0.5, 0.25), 0, 1)))
