"""Jewellery, clothing, what surgeons leave behind, what is in pockets. Called by foreign_objects."""

import numpy as np

from training.phantom.body import Body
from training.phantom.chains import Chain
from training.phantom.device_parts import Material, Part, Plate, disc, on_skin


def necklace(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """A chain around the neck, often with a pendant."""
    wide, low = rng.uniform(45, 75) * body.scale, rng.uniform(-85, -20) * body.scale
    across = np.linspace(-1, 1, 70)
    flat = np.stack([wide * across, low - (low + 150 * body.scale) * across**2], axis=1)
    course = on_skin(body, flat, front=True)
    beads = rng.uniform(0.6, 1.3) * (1 + 0.5 * np.sin(np.arange(70) * 2.4))
    parts: list[Part | Plate] = [Part(Material.METAL, Chain(course, beads, depth=0.6))]
    if rng.random() < 0.6:
        lowest = course[35]
        parts.append(
            Plate(Material.METAL, disc(lowest + np.array([0, 8, 0]), rng.uniform(4, 9)), rng.uniform(0.5, 1.5))
        )
    return parts


def buttons(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """A row of shirt buttons or the snaps of a gown."""
    snaps = rng.random() < 0.4
    x, first = rng.normal(0, 25) * body.scale, rng.uniform(-70, -30) * body.scale
    parts: list[Part | Plate] = []
    for number in range(rng.integers(2, 6)):
        place = body.skin(x, first + number * rng.uniform(58, 66) * body.scale) - [0, 0, 3]
        radius = rng.uniform(4.5, 6.5)
        if snaps:
            parts.append(Plate(Material.METAL, disc(place, radius), 0.4, hole=disc(place, 0.45 * radius)))
        else:
            parts.append(Plate(Material.PLASTIC, disc(place, radius), 2.5, hole=disc(place, 0.25 * radius)))
    return parts


def bra(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """Hooks at the back, adjusters on the straps, sometimes wires below the breasts."""
    torso = body.torso
    level = torso.breast_y + 20 * body.scale
    parts: list[Part | Plate] = []
    for row in range(rng.integers(2, 4)):
        hook = body.skin(rng.normal(0, 2), level + 14 * row, front=False) + np.array([0, 0, 2])
        around = np.linspace(0.5, 2 * np.pi, 12)
        ring = hook + 3.2 * np.stack([np.cos(around), 0.7 * np.sin(around), 0 * around], axis=1)
        parts.append(Part(Material.METAL, Chain(ring, 0.5, depth=0.6)))
    for sign in (-1.0, 1.0):
        place = body.skin(sign * 0.55 * torso.half_width, rng.uniform(-60, 0) * body.scale) - [0, 0, 2]
        corners = np.array([[-7, -4, 0], [7, -4, 0], [7, 4, 0], [-7, 4, 0], [-7, -4, 0.0]])
        parts.append(Part(Material.METAL, Chain(place + corners, 0.6, depth=0.6)))
        if rng.random() < 0.4:
            around = np.linspace(0.1 * np.pi, 0.9 * np.pi, 30)
            wire = np.stack([np.cos(around), np.sin(around)], axis=1) * torso.breast_radius * 0.95
            flat = wire + np.array([sign * torso.breast_x, torso.breast_y - 0.2 * torso.breast_radius])
            parts.append(Part(Material.METAL, Chain(on_skin(body, flat, front=True), 0.8, depth=0.5)))
    return parts


def surgical_clips(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """A handful of V-shaped clips in axilla, neck or mediastinum."""
    wide = body.torso.half_width
    sites = [(0.85 * wide, 10.0), (-0.85 * wide, 10.0), (0.0, -110.0), (-0.2 * wide, 30.0), (0.3 * wide, 50.0)]
    x, y = sites[rng.integers(len(sites))]
    parts: list[Part | Plate] = []
    for _ in range(rng.integers(2, 8)):
        place = np.array([x, y * body.scale, 0]) + rng.normal(0, 13, 3) * body.scale
        turn = rng.uniform(0, 2 * np.pi)
        arms = 5.5 * np.array([[np.cos(turn), np.sin(turn), 0], [0, 0, 0], [np.cos(turn + 0.4), np.sin(turn + 0.4), 0]])
        parts.append(Part(Material.METAL, Chain(place + arms, 0.45, depth=0.9)))
    return parts


def sternal_wires(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """Four to seven loops around the sternum after an operation on the heart, twisted in front."""
    parts: list[Part | Plate] = []
    levels = np.linspace(-48, 72, rng.integers(4, 8)) * body.scale
    for level in levels:
        middle = body.skin(rng.normal(0, 2), level) + np.array([0, 0, 16])
        around = np.linspace(0, 2 * np.pi, 28)
        wide, tall = rng.uniform(9, 13) * body.scale, rng.uniform(2, 7) * body.scale
        shape = np.stack(
            [wide * np.cos(around), tall * np.sin(around) * np.cos(around * 0.5), 7 * np.sin(around)], axis=1
        )
        parts.append(Part(Material.METAL, Chain(middle + shape, 0.45, depth=0.9)))
        twist = middle + np.array([[0, 0, -7], [1.5, 3, -8], [0, 6, -7]])
        parts.append(Part(Material.METAL, Chain(twist, 0.8, depth=0.9)))
    return parts


def coin(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """A coin, a battery or a key ring in a pocket."""
    x = rng.choice([-1.0, 1.0]) * rng.uniform(0.35, 0.7) * body.torso.half_width
    place = body.skin(x, rng.uniform(10, 80) * body.scale) - [0, 0, 5]
    radius = rng.uniform(8, 13)
    hole = disc(place, 0.8 * radius) if rng.random() < 0.4 else None
    return [Plate(Material.METAL, disc(place, radius), rng.uniform(1.2, 2.2), hole=hole)]


def zip_fastener(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """Two rows of teeth down the middle, and the slider."""
    x, low = rng.normal(0, 8), rng.uniform(60, 200) * body.scale
    parts: list[Part | Plate] = []
    for y in np.arange(-80 * body.scale, low, 3.0):
        tooth = body.skin(x, y) - [0, 0, 3] + np.array([[-2.0, 0, 0], [2.0, 0, 0]])
        parts.append(Part(Material.METAL, Chain(tooth, 0.6, depth=0.5)))
    return parts
