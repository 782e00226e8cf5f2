"""Draws one person: habitus, lungs, heart and the findings that change their shape."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schemas.codes import Finding
from training.plain.phantom.thorax import LungShape, ThoraxShape

#: How often each finding is drawn; findings are independent of each other.
PREVALENCE = {
    Finding.PLEURAL_EFFUSION: 0.35,
    Finding.PNEUMOTHORAX: 0.25,
    Finding.CONSOLIDATION: 0.35,
    Finding.CARDIOMEGALY: 0.35,
    Finding.NODULE: 0.35,
}


@dataclass(frozen=True)
class Anatomy:
    """One person."""

    thorax: ThoraxShape
    right: LungShape
    left: LungShape
    findings: frozenset[Finding]
    view_position: Literal["PA", "AP"]


def draw_anatomy(rng: np.random.Generator, view_position: Literal["PA", "AP"]) -> Anatomy:
    """An adult for a frontal view; AP means supine, with a larger heart shadow and higher diaphragms."""
    findings = frozenset(finding for finding, share in PREVALENCE.items() if rng.random() < share)
    supine = view_position == "AP"
    width = rng.normal(134, 9)
    apex = rng.normal(-92, 7)
    dome = rng.normal(106 if supine else 122, 12)
    effusion_sides = _sides(rng, Finding.PLEURAL_EFFUSION in findings, both=0.3)
    pneumothorax_sides = _sides(rng, Finding.PNEUMOTHORAX in findings, both=0.0)
    lungs = []
    for side in range(2):
        side_dome = dome + (rng.normal(14, 5) if side else 0.0)
        angle = side_dome + rng.uniform(32, 55)
        level = angle - math.exp(rng.uniform(math.log(28), math.log(130))) if effusion_sides[side] else angle + 500
        lungs.append(
            LungShape(
                apex=apex + rng.normal(0, 3),
                dome=side_dome,
                angle=angle,
                apex_distance=rng.normal(50, 4),
                width=width + rng.normal(0, 3),
                medial=rng.uniform(9, 15),
                depth=rng.normal(150, 12),
                effusion_level=level,
                effusion_rise=rng.uniform(10, 45),
                pneumothorax=rng.uniform(16, 50) if pneumothorax_sides[side] else 0.0,
            )
        )
    # Cardiothoracic ratio: below 0.5 is normal on a PA view, an AP view magnifies the heart.
    ratio = rng.uniform(0.56, 0.70) if Finding.CARDIOMEGALY in findings else rng.uniform(0.38, 0.50)
    ratio += 0.02 * supine
    tilt = rng.uniform(0.45, 0.85)
    heart_long = ratio * width / math.sqrt(math.cos(tilt) ** 2 + (0.74 * math.sin(tilt)) ** 2)
    # It rests on the diaphragm; a large heart grows downwards and not over the carina.
    heart_y = max(dome - 0.45 * heart_long, 12 + 0.82 * heart_long) + rng.normal(0, 4)
    thorax = ThoraxShape(
        half_width=width + rng.uniform(22, 48),
        thickness=rng.normal(215, 22),
        neck=rng.uniform(52, 66),
        shoulder=rng.normal(-128, 8),
        breast=rng.uniform(10, 45) if rng.random() < 0.5 else 0.0,
        heart_x=0.30 * ratio * width + rng.normal(3, 4),
        heart_y=heart_y,
        heart_long=heart_long,
        heart_short=0.74 * heart_long,
        heart_tilt=tilt,
        aorta=rng.uniform(19, 31),
        mediastinum=rng.uniform(21, 30) + 4 * supine,
    )
    return Anatomy(thorax, lungs[0], lungs[1], findings, view_position)


def _sides(rng: np.random.Generator, affected: bool, both: float) -> tuple[bool, bool]:
    if not affected:
        return (False, False)
    if rng.random() < both:
        return (True, True)
    right = bool(rng.random() < 0.5)
    return (right, not right)
