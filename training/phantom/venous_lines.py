"""Lines in veins: central venous catheters by three routes and the pulmonary artery catheter. Called by devices."""

from enum import Enum

import numpy as np

from training.phantom.body import Body, Side
from training.phantom.chains import Chain, arc_lengths, smooth_curve
from training.phantom.device_parts import Course, Material, Part, PlacedDevice, cut, join, short_of_tip
from training.phantom.makes import VENOUS, CatheterMake
from training.phantom.position_rules import Lies, body_share, central_venous_position, pulmonary_artery_position
from training.phantom.truth import DeviceKind, Family


class _Route(Enum):
    """Where a catheter enters, with its share."""

    JUGULAR = 0.45
    SUBCLAVIAN = 0.25
    #: Peripherally inserted, through the arm.
    ARM = 0.30


def draw_central_venous_catheter(rng: np.random.Generator, body: Body, family: Family) -> PlacedDevice:
    """A catheter that ends anywhere from a vein before the cava to the right atrium, sometimes in the wrong vein."""
    routes = list(_Route)
    route = routes[rng.choice(len(routes), p=[each.value for each in routes])]
    side = body.right if rng.random() < (0.75 if route is _Route.JUGULAR else 0.6) else body.left
    dialysis = route is _Route.JUGULAR and rng.random() < 0.2
    french = rng.uniform(4, 5.5) if route is _Route.ARM else rng.uniform(11, 14) if dialysis else rng.uniform(6.5, 8.5)
    radius = french / 6 * (0.5 + 0.5 * body_share(body.age_years))
    peripheral = _peripheral(rng, body, side, route)
    lies, above, short = Lies.OTHER_VEIN, 0.0, 0.0
    if rng.random() < 0.13:
        course = _astray(rng, body, side, route, peripheral)
    else:
        whole = join(peripheral, side.brachiocephalic, body.superior_vena_cava, body.right_atrium)
        # Lengths along the rounded course, so that they add up.
        junction = _length_at(whole, body.superior_vena_cava[-1])
        cava = junction - _length_at(whole, body.superior_vena_cava[0])
        above = _draw_above_junction(rng, cava, body_share(body.age_years), arc_lengths(whole)[-1] - junction)
        short = max(0.0, above - cava)
        course = cut(whole, junction - above)
        lies = Lies.SUPERIOR_VENA_CAVA if above >= 0 else Lies.RIGHT_ATRIUM
        if short > 0:
            lies = Lies.BRACHIOCEPHALIC_VEIN
    makes = VENOUS[family]
    return PlacedDevice(
        kind=DeviceKind.CENTRAL_VENOUS_CATHETER,
        course=course,
        radius_mm=radius,
        parts=tuple(catheter_parts(course, radius, makes[rng.integers(len(makes))])),
        judgement=central_venous_position(above, short, lies, body.age_years),
    )


def draw_pulmonary_artery_catheter(rng: np.random.Generator, body: Body, family: Family) -> PlacedDevice:
    """A Swan-Ganz catheter by a jugular vein through the right heart into one pulmonary artery, or short of it."""
    entry = body.right if rng.random() < 0.8 else body.left
    artery = body.right if rng.random() < 0.75 else body.left
    peripheral = _peripheral(rng, body, entry, _Route.JUGULAR)
    beyond_the_hilum = artery.pulmonary_artery[-1] + np.array([artery.sign * 30, 26, 6]) * body.scale
    heart = join(peripheral, entry.brachiocephalic, body.superior_vena_cava, body.right_atrium, body.outflow_tract)
    whole = join(
        peripheral, entry.brachiocephalic, body.superior_vena_cava, body.right_atrium, body.outflow_tract,
        artery.pulmonary_artery[1:], beyond_the_hilum[None],
    )  # fmt: skip
    hilum = _length_at(whole, artery.hilum)
    valve = arc_lengths(heart)[-1]
    if rng.random() < 0.12:
        lies, beyond = Lies.RIGHT_VENTRICLE, -80.0
        course = cut(whole, valve - rng.uniform(5, 40) * body.scale)
    else:
        lies = Lies.PULMONARY_ARTERY
        room = arc_lengths(whole)[-1] - hilum
        beyond = float(min(rng.uniform(-35, 65) * body_share(body.age_years), room))
        course = cut(whole, hilum + beyond)
    radius = rng.uniform(1.15, 1.35) * (0.6 + 0.4 * body_share(body.age_years))
    makes = VENOUS[family]
    return PlacedDevice(
        kind=DeviceKind.PULMONARY_ARTERY_CATHETER,
        course=course,
        radius_mm=radius,
        parts=tuple(catheter_parts(course, radius, makes[rng.integers(len(makes))])),
        judgement=pulmonary_artery_position(beyond, lies, body.age_years),
    )


def catheter_parts(course: Course, radius: float, make: CatheterMake) -> list[Part]:
    """A loaded tube, denser at its end when the make marks it."""
    course = short_of_tip(course, radius)
    parts = [
        Part(Material.PLASTIC, Chain(course, radius, hollow=make.hollow)),
        Part(Material.RADIOPAQUE, Chain(course, radius, hollow=make.hollow, depth=make.opacity)),
    ]
    if make.marked_tip:
        end = course[-max(2, round(make.marked_tip / 2)) :]
        parts.append(Part(Material.RADIOPAQUE, Chain(end, radius, depth=0.6)))
    return parts


def _peripheral(rng: np.random.Generator, body: Body, side: Side, route: _Route) -> Course:
    """From outside of the skin to where subclavian and jugular vein meet."""
    if route is _Route.ARM:
        return side.subclavian
    if route is _Route.JUGULAR:
        first = int(rng.integers(5, len(side.internal_jugular) * 2 // 3))
        inside = side.internal_jugular[first:]
        outwards = np.array([side.sign * rng.uniform(8, 30), -rng.uniform(25, 60), -rng.uniform(18, 40)]) * body.scale
    else:
        first = int(len(side.subclavian) * rng.uniform(0.58, 0.72))
        inside = side.subclavian[first:]
        outwards = np.array([side.sign * rng.uniform(35, 70), rng.uniform(5, 40), -rng.uniform(20, 40)]) * body.scale
    bow = inside[0] + 0.5 * outwards + rng.normal(0, 5, 3) * body.scale
    return np.concatenate([smooth_curve([inside[0] + outwards, bow, inside[0]], 16)[:-1], inside])


def _draw_above_junction(rng: np.random.Generator, cava: float, share: float, atrium: float) -> float:
    """Tip above the cavoatrial junction in mm along the vein, negative in the atrium; a third lies near a limit."""
    deepest = -min(55 * share, atrium)
    if rng.random() < 0.33:
        limit = rng.choice([10 * share, -10 * share, cava, cava + 20 * share])
        return float(max(deepest, limit + rng.uniform(-10, 10) * share))
    if rng.random() < 0.5:
        return float(rng.uniform(10 * share, cava))
    return float(rng.uniform(deepest, cava + 60 * share))


def _astray(rng: np.random.Generator, body: Body, side: Side, route: _Route, peripheral: Course) -> Course:
    """Into a vein that does not lead to the heart: up the jugular, out along the subclavian, or across."""
    other = body.side(-side.sign)
    if rng.random() < 0.35:
        way = join(peripheral, side.brachiocephalic, other.brachiocephalic[::-1], other.subclavian[:30:-1])
        start = arc_lengths(join(peripheral, side.brachiocephalic))[-1]
        return cut(way, start + rng.uniform(25, 110) * body.scale)
    turned = side.subclavian[:20:-1] if route is _Route.JUGULAR else side.internal_jugular[::-1]
    start = arc_lengths(join(peripheral))[-1]
    return cut(join(peripheral, turned), start + rng.uniform(20, 80) * body.scale)


def _length_at(course: Course, point: Course) -> float:
    """Where along the course the point lies nearest, mm."""
    return float(arc_lengths(course)[np.argmin(np.linalg.norm(course - point, axis=1))])
