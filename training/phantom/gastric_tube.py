"""The nasogastric tube: in the stomach, too short, coiled, or in a bronchus. Called by devices."""

from enum import Enum

import numpy as np

from training.phantom.body import Body
from training.phantom.chains import Chain, arc_lengths, smooth_curve
from training.phantom.device_parts import Course, Material, Part, PlacedDevice, beside, cut, join, short_of_tip
from training.phantom.makes import GASTRIC, TubeMake
from training.phantom.position_rules import Lies, body_share, nasogastric_position
from training.phantom.truth import DeviceKind, Family


class _Way(Enum):
    """Where a tube went, with its share."""

    STOMACH = 0.52
    SHORT = 0.26
    BRONCHUS = 0.13
    COILED = 0.09


def draw_gastric_tube(rng: np.random.Generator, body: Body, family: Family) -> PlacedDevice:
    """A tube of 12 to 18 French in an adult (1 French = 1/3 mm), thinner in a child, or a fine feeding tube."""
    ways = list(_Way)
    way = ways[rng.choice(len(ways), p=[each.value for each in ways])]
    feeding = rng.random() < 0.25
    french = rng.uniform(8, 12) if feeding else rng.uniform(12, 18)
    radius = french / 6 * (0.4 + 0.6 * body_share(body.age_years))
    above = _from_the_nose(rng, body)
    gullet = body.oesophagus[: body.oesophagus_end + 1]
    inlet = arc_lengths(join(above, gullet))[-1]
    coiled, beyond, lies = False, -1.0, Lies.OESOPHAGUS
    if way is _Way.BRONCHUS:
        right = rng.random() < 0.7
        lies = Lies.RIGHT_BRONCHUS if right else Lies.LEFT_BRONCHUS
        bronchus = (body.right if right else body.left).bronchus
        way_in = join(above, body.trachea, bronchus[1:])
        course = cut(way_in, arc_lengths(way_in)[-1] - rng.uniform(2, 45) * body.scale)
    elif way is _Way.COILED:
        coiled = True
        course = _coil(rng, body, above, gullet)
    else:
        whole = join(above, body.oesophagus)
        longest = arc_lengths(whole)[-1] - inlet
        needed = 100 * body_share(body.age_years)
        if way is _Way.STOMACH:
            beyond = rng.uniform(needed, max(longest, needed + 5))
        else:
            beyond = rng.uniform(-130 * body.scale, needed)
        beyond = float(min(beyond, longest))
        lies = Lies.STOMACH if beyond >= 0 else Lies.OESOPHAGUS
        course = cut(whole, inlet + beyond)
    makes = GASTRIC[family]
    return PlacedDevice(
        kind=DeviceKind.NASOGASTRIC_TUBE,
        course=course,
        radius_mm=radius,
        parts=tuple(_parts(rng, short_of_tip(course, radius), radius, makes[rng.integers(len(makes))], feeding)),
        judgement=nasogastric_position(beyond, lies, coiled, body.age_years),
    )


def _from_the_nose(rng: np.random.Generator, body: Body) -> Course:
    """From a nostril over the palate down to where the oesophagus' course begins."""
    turn = rng.normal(0, 14)
    knots = np.array(
        [[turn, -92, -88], [0.9 * turn, -98, -50], [0.6 * turn, -84, -12], [0.2 * turn, -38, 2], [0, 0, 0]]
    )
    return np.asarray(smooth_curve(knots * body.scale, 40)[:-1] + body.oesophagus[0])


def _coil(rng: np.random.Generator, body: Body, above: Course, gullet: Course) -> Course:
    """Down, a turn, and up again beside itself."""
    low = rng.integers(len(gullet) // 2, len(gullet) - 4)
    down = gullet[:low]
    wide = rng.uniform(7, 12) * body.scale * (1 if rng.random() < 0.5 else -1)
    bottom = down[-1] + np.array([0.5 * wide, 0.8 * abs(wide), 0])
    high = rng.integers(low // 3, low - 6)
    up = down[high:-1][::-1] + np.array([wide, 0, 0])
    return join(above, down, bottom[None], up)


def _parts(rng: np.random.Generator, course: Course, radius: float, make: TubeMake, feeding: bool) -> list[Part]:
    wall = Chain(course, radius, hollow=make.hollow)
    parts = [Part(Material.PLASTIC, wall)]
    if feeding:
        # Loaded throughout, with a weight at its end.
        parts.append(Part(Material.RADIOPAQUE, Chain(course, radius, hollow=make.hollow, depth=0.7)))
        if rng.random() < 0.6:
            weight = course[-max(3, round(rng.uniform(12, 30) / 2)) :]
            parts.append(Part(Material.METAL, Chain(weight, 1.15 * radius, depth=0.5)))
        return parts
    if make.loaded_wall:
        parts.append(Part(Material.RADIOPAQUE, Chain(course, radius, hollow=make.hollow, depth=make.loaded_wall)))
    middle = radius * (1 + make.hollow) / 2
    # Side holes interrupt the stripe a hand's breadth before the tip.
    to_tip = arc_lengths(course[::-1])[::-1]
    hole = rng.uniform(55, 90)
    angle = rng.uniform(0, 2 * np.pi)
    for number in range(make.stripes):
        stripe = beside(course, middle, angle + 2 * np.pi * number / make.stripes)
        thickness = max(0.25, make.stripe * radius / 5)
        for kept in (to_tip > hole + 6, to_tip < hole):
            if kept.sum() >= 2:
                parts.append(Part(Material.RADIOPAQUE, Chain(stripe[kept], thickness, depth=make.stripe_depth)))
    return parts
