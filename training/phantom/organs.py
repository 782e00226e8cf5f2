"""Heart, great vessels, mediastinum and gas of one person as ellipsoids.

Called by render.py, which projects them with thorax.py. Their silhouettes are those that a film is read by: right
atrium, superior vena cava, aortic knob, pulmonary trunk, left ventricle, descending aorta.
"""

from dataclasses import dataclass

import numpy as np

from training.phantom.body import Body
from training.phantom.chains import Chain
from training.phantom.thorax import BACK, GAS, HEART, VESSELS, Ellipsoid

#: Its place among the great vessels.
_ARCH = 3


@dataclass(frozen=True, eq=False)
class Organs:
    """Every soft organ between the lungs, and gas below the left dome."""

    parts: list[Ellipsoid]
    #: Of the aorta, for what lies in its wall.
    arch: Ellipsoid


def draw_organs(rng: np.random.Generator, body: Body) -> Organs:
    """Organs that fit the body's courses."""
    vessels = _great_vessels(rng, body)
    return Organs([*_heart(rng, body), *vessels, *_gas(rng, body)], vessels[_ARCH])


def arch_calcification(rng: np.random.Generator, organs: Organs) -> list[Chain]:
    """Thin shells in the wall of the aortic knob, outer and lower edge."""
    arch = organs.arch
    chains = []
    for _ in range(rng.integers(1, 4)):
        start = rng.uniform(-0.7, 1.3)
        angles = np.linspace(start, start + rng.uniform(0.3, 1.2), 12)
        rim = np.stack([np.cos(angles), np.sin(angles), rng.normal(0, 0.2) * np.ones(12)], axis=1)
        radius = rng.uniform(0.5, 1.2) * np.sin(np.linspace(0.25, np.pi - 0.25, 12))
        chains.append(Chain(arch.centre + 0.95 * arch.radii * rim, radius, depth=rng.uniform(3, 8)))
    return chains


def _heart(rng: np.random.Generator, body: Body) -> list[Ellipsoid]:
    size = body.cardiothoracic_ratio * body.right.lung.width
    centre = body.heart_centre
    tilt = float(rng.uniform(0.5, 0.85))
    depth = float(rng.uniform(0.85, 1.1))

    def part(x: float, y: float, z: float, *radii: float, turn: float = 0.0) -> Ellipsoid:
        return Ellipsoid(HEART, centre + size * np.array([x, y, z]), size * np.array(radii), turn)

    upper = (0.28 + 0.17 * size / body.right.lung.width) / 0.45
    return [
        part(0.13, 0.10, 0, 1.0, 0.68, depth, turn=tilt),
        # Right atrium and, above the left ventricle, atrium with its appendage.
        part(-0.45, -0.06, 0.02, 0.53, 0.72 * rng.uniform(0.92, 1.08), 0.75),
        part(0.0, -0.40, 0.1, 0.44 * upper, 0.56 * upper, 0.6, turn=-0.35),
    ]


def _great_vessels(rng: np.random.Generator, body: Body) -> list[Ellipsoid]:
    length = body.scale
    girth = body.right.lung.width / 139
    scale = np.array([girth, length, girth])
    adult = min(1.0, max(0.0, (body.age_years - 4) / 60))
    aorta = (13 + 7 * adult) * rng.uniform(0.88, 1.15)
    pedicle = rng.uniform(27, 37) * (1.12 if body.supine else 1.0)
    if body.age_years < 6:
        # Thymus.
        pedicle *= rng.uniform(1.15, 1.7)

    def part(group: int, x: float, y: float, z: float, *radii: float, turn: float = 0.0) -> Ellipsoid:
        return Ellipsoid(group, np.array([x, y, z]) * scale, np.array(radii) * scale, turn)

    uncoiled = adult * rng.uniform(0, 9)
    return [
        part(VESSELS, 0, -52, -22, pedicle, 70, 30),
        part(VESSELS, -25, -6, -22, 13, 66, 16),
        # Ascending aorta, arch (it runs backwards to the left of the trachea) and pulmonary trunk.
        part(VESSELS, -13 - 0.4 * uncoiled, 4, -28, aorta + 3, 46, aorta + 3),
        part(VESSELS, 13 + 0.4 * uncoiled, -29, -6, aorta + 1.5, aorta + 1, 34),
        part(VESSELS, 20, 16, -22, 18, 28, 20, turn=-0.3),
        # Subcarinal and lower mediastinum with the oesophagus.
        part(BACK, 1, 76, 10, 23, 88, 26),
        part(BACK, 15 + uncoiled, 70, 26, aorta * 0.8, 128, aorta * 0.8, turn=0.02),
    ]


def _gas(rng: np.random.Generator, body: Body) -> list[Ellipsoid]:
    length = body.scale
    floor = body.left.lung.dome
    bubbles = []
    if rng.random() < 0.8:
        wide = rng.uniform(14, 36) * length
        tall = wide * rng.uniform(0.35, 0.9)
        centre = np.array([rng.uniform(42, 68) * length, floor + 9 * length + tall, rng.uniform(-20, 10)])
        bubbles.append(Ellipsoid(GAS, centre, np.array([wide, tall, 0.7 * tall + 6]), rng.normal(0, 0.2)))
    for _ in range(rng.integers(0, 5)):
        radius = rng.uniform(7, 20) * length
        centre = np.array([rng.uniform(-110, 110), floor + rng.uniform(45, 110), -30]) * [length, 1, length]
        bubbles.append(Ellipsoid(GAS, centre, radius * rng.uniform(0.5, 1.2, 3), rng.normal(0, 0.6)))
    return bubbles
