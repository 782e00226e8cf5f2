"""The chest tube: through the chest wall into the pleural space, with side holes. Called by devices."""

import numpy as np

from training.phantom.body import Body
from training.phantom.chains import Chain, arc_lengths, smooth_curve
from training.phantom.device_parts import Course, Material, Part, PlacedDevice, beside, cut, join, short_of_tip
from training.phantom.makes import PLEURAL, TubeMake
from training.phantom.position_rules import body_share, chest_tube_position
from training.phantom.truth import DeviceKind, Family


def draw_chest_tube(rng: np.random.Generator, body: Body, family: Family) -> PlacedDevice:
    """A drain of 20 to 32 French (1 French = 1/3 mm), thinner in a child; its last side hole may lie outside."""
    share = body_share(body.age_years)
    side = body.right if rng.random() < 0.55 else body.left
    radius = rng.uniform(20, 32) / 6 * (0.35 + 0.65 * share)
    entry = int(rng.integers(4, 16))
    pleura = side.pleura[entry:]
    if rng.random() < 0.25:
        # For fluid: down and back along the chest wall.
        pleura = side.pleura[entry + 10 :: -1] + np.linspace(0, 1, entry + 11)[:, None] * [0, 0, 0.5 * side.lung.depth]
    outside = _outside(rng, body, side.sign, pleura[0])
    whole = join(outside, pleura)
    wall = float(arc_lengths(whole)[np.argmin(np.linalg.norm(whole - pleura[0], axis=1))])
    # From the last side hole to the tip, with the other holes between.
    holed = rng.uniform(40, 75) * share
    room = float(arc_lengths(whole)[-1]) - wall
    near = rng.random() < 0.3
    hole = rng.uniform(-12, 25) * share if near else rng.uniform(-35 * share, max(20.0, room - holed))
    hole = float(min(hole, room - holed))
    course = cut(whole, wall + hole + holed)
    makes = PLEURAL[family]
    return PlacedDevice(
        kind=DeviceKind.CHEST_TUBE,
        course=course,
        radius_mm=radius,
        parts=tuple(_parts(rng, short_of_tip(course, radius), radius, holed - radius, makes[rng.integers(len(makes))])),
        judgement=chest_tube_position(hole, body.age_years),
    )


def _outside(rng: np.random.Generator, body: Body, sign: float, entry: Course) -> Course:
    """From the suction below to the skin and through the chest wall, tunnelled upwards a little."""
    skin = np.array([sign * 0.99 * body.torso.half_width, entry[1] + rng.uniform(8, 25) * body.scale, entry[2] - 8])
    away = skin + np.array([sign * rng.uniform(10, 50), rng.uniform(40, 110), rng.uniform(-60, -10)]) * body.scale
    return smooth_curve([away, 0.5 * (away + skin) + [sign * 8, 0, 0], skin, entry], 32)[:-1]


def _parts(rng: np.random.Generator, course: Course, radius: float, holed: float, make: TubeMake) -> list[Part]:
    """Wall; a stripe that the last side hole interrupts."""
    parts = [Part(Material.PLASTIC, Chain(course, radius, hollow=make.hollow))]
    if make.loaded_wall:
        parts.append(Part(Material.RADIOPAQUE, Chain(course, radius, hollow=make.hollow, depth=make.loaded_wall)))
    stripe = beside(course, radius * (1 + make.hollow) / 2, rng.uniform(0, 2 * np.pi))
    to_tip = arc_lengths(course[::-1])[::-1]
    for kept in (to_tip > holed + 5, to_tip < holed - 5):
        if kept.sum() >= 2:
            chain = Chain(stripe[kept], max(0.3, make.stripe * radius / 5), depth=make.stripe_depth)
            parts.append(Part(Material.RADIOPAQUE, chain))
    return parts
