"""Ribs, clavicles, scapulae, arms, spine and sternum as capsule chains in patient mm.

Called by render.py. Bones are a cortex with marrow inside; broken ones are drawn as findings.py asks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.phantom.body import Body
from training.phantom.chains import Chain, smooth_curve
from training.phantom.shapes import LungShape, lateral_borders
from training.phantom.truth import View


@dataclass(frozen=True)
class Break:
    """A fracture of a rib or of a clavicle."""

    sign: float
    #: 1 to 12 counts ribs; 0 is the clavicle.
    rib: int
    #: Where along the bone, 0..1.
    along: float
    #: Of the far piece, mm down the body.
    step_mm: float
    healed: bool


@dataclass(frozen=True, eq=False)
class Skeleton:
    ribs: list[Chain]
    clavicles: list[Chain]
    #: Spine, scapulae, humeri, sternum.
    others: list[Chain]
    #: Soft tissue of the arms and shoulders, which carry bones.
    arms: list[Chain]
    #: The breaks that were drawn, and where, patient mm [breaks, 3].
    broken: tuple[Break, ...]
    breaks: NDArray[np.float64]

    @property
    def bones(self) -> list[Chain]:
        return [*self.ribs, *self.clavicles, *self.others]


def draw_skeleton(rng: np.random.Generator, body: Body, breaks: tuple[Break, ...] = ()) -> Skeleton:
    """All bones of one person."""
    places: list[tuple[Break, NDArray[np.float64]]] = []
    ribs = _ribs(rng, body, breaks, places)
    clavicles, others, arms = _shoulder_girdle(rng, body, breaks, places)
    others += _spine(rng, body)
    if body.view is View.LATERAL:
        others += _sternum(rng, body)
    broken = tuple(each for each, _ in places)
    return Skeleton(ribs, clavicles, others, arms, broken, np.array([place for _, place in places]).reshape(-1, 3))


def _ribs(
    rng: np.random.Generator, body: Body, breaks: tuple[Break, ...], places: list[tuple[Break, NDArray[np.float64]]]
) -> list[Chain]:
    length = body.scale
    chains: list[Chain] = []
    radius = rng.uniform(4.8, 6.0) * length**0.85
    # Children's ribs run level, old and inflated chests' steeply.
    steep = rng.uniform(0.75, 1.15) * (0.6 + 0.4 * min(1.0, body.age_years / 14))
    pitch = rng.normal(1.0, 0.025)
    cartilage = max(0.0, (body.age_years - 45) / 40) * rng.uniform(0, 0.8)
    cortex = rng.uniform(0.84, 0.92)
    filling = rng.uniform(0.35, 0.55)
    for side in (body.right, body.left):
        lung = side.lung
        for number in range(1, 13):
            head = lung.apex + length * (-4 + pitch * (20.5 * (number - 1) + 0.42 * (number - 1) ** 2))
            course = _rib(lung, body, number, head, steep * length)
            wide = radius * (0.85 if number in (1, 11, 12) else 1.0)
            taper = np.interp(np.linspace(0, 1, len(course)), [0, 0.1, 0.75, 1], [0.75, 1.0, 1.08, 1.25]) * wide
            mine = [each for each in breaks if each.rib == number and each.sign == side.sign]
            pieces = _broken(course, taper, mine[0] if mine else None, places)
            depth = 0.85
            chains += [Chain(line, size, cortex, filling, depth) for line, size in pieces]
            if cartilage > 0.25 and number < 9:
                chains += _calcified_cartilage(rng, course[-1], side.sign, length, cartilage)
    return chains


def _rib(lung: LungShape, body: Body, number: int, head: float, scale: float) -> NDArray[np.float64]:
    """From the spine round the side to the cartilage, float64 [points, 3]."""
    reach = {1: 0.80, 11: 0.55, 12: 0.42}.get(number, 0.80 - 0.012 * max(0, number - 7))
    fall = {1: 44.0, 2: 66.0}.get(number, 74.0 + 6.5 * min(number, 9)) * scale
    turn = np.linspace(0.10, reach, 30) * np.pi
    share = (turn - turn[0]) / np.pi
    # Up a little from the head to the tubercle, then ever steeper, level again in front.
    y = (
        head
        + fall * (1.28 * share - 0.42 * np.sin(2.2 * np.pi * share) * 0.35)
        - 5 * scale * np.sin(np.pi * np.minimum(1, share / 0.22))
    )
    levels = np.maximum(y, lung.apex + 10 * scale)
    wide = lateral_borders(lung, np.minimum(levels, lung.angle))
    wide = np.maximum(wide, 0.8 * lung.apex_x) + 3 * scale
    if number == 1:
        wide = np.minimum(wide, 1.45 * lung.apex_x)
    u = np.sin(np.minimum(turn, np.pi * 0.999))
    level = np.clip((levels - lung.apex) / (120 * scale), 0, 1)
    depth = lung.depth * (0.30 + 0.70 * np.sqrt(level * (2 - level))) + 3 * scale
    z = lung.centre_z + np.sign(np.cos(turn)) * depth * (1 - np.abs(u) ** lung.squareness) ** 0.45
    # Behind, ribs start at the spine's side, which lies further in front than the lungs' backs.
    z = np.where(share < 0.12, z - (0.12 - share) / 0.12 * 34 * scale, z)
    return np.stack([lung.sign * (wide * u + 2 * scale), y, z], axis=1)


def _broken(
    course: NDArray[np.float64],
    radii: NDArray[np.float64],
    broken: Break | None,
    places: list[tuple[Break, NDArray[np.float64]]],
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    if broken is None:
        return [(course, radii)]
    at = int(np.clip(round(broken.along * (len(course) - 1)), 3, len(course) - 4))
    places.append((broken, course[at]))
    if broken.healed:
        # Callus.
        away = np.arange(len(course)) - at
        return [(course, radii * (1 + 0.75 * np.exp(-0.5 * (away / 1.1) ** 2)))]
    far = course[at:].copy()
    fade = np.linspace(1, 0.3, len(far))[:, None]
    far += fade * np.array([0, broken.step_mm, 0])
    along = course[at + 1] - course[at]
    far[0] += 0.35 * along
    return [(course[: at + 1], radii[: at + 1]), (far, radii[at:])]


def _calcified_cartilage(
    rng: np.random.Generator, end: NDArray[np.float64], sign: float, length: float, share: float
) -> list[Chain]:
    chains = []
    for _ in range(rng.integers(2, 6)):
        place = end + np.array([-sign * rng.uniform(0, 26), rng.uniform(-4, 10), -2]) * length
        size = rng.uniform(3, 11) * length
        chains.append(
            Chain(
                np.stack([place, place + np.array([-sign * size, 0.3 * size, 0])]),
                rng.uniform(0.8, 2.4) * length,
                depth=share,
            )
        )
    return chains


def _shoulder_girdle(
    rng: np.random.Generator, body: Body, breaks: tuple[Break, ...], places: list[tuple[Break, NDArray[np.float64]]]
) -> tuple[list[Chain], list[Chain], list[Chain]]:
    length = body.scale
    clavicles: list[Chain] = []
    others: list[Chain] = []
    arms: list[Chain] = []
    high = rng.normal(0, 7)
    girth = body.right.lung.width / 139
    scale = np.array([girth, length, girth])
    # Shoulders turned forward (PA) bring the scapulae off the lungs.
    border = rng.uniform(84, 108) if body.supine else rng.uniform(112, 142)
    raised = body.view is View.LATERAL
    abducted = rng.uniform(5, 50) if body.supine else rng.uniform(15, 75)
    if body.age_years < 8:
        # Somebody holds them.
        abducted = rng.uniform(20, 150)
    thick = rng.uniform(4.4, 5.8) * length**0.85
    for side in (body.right, body.left):
        across = np.array([side.sign, 1, 1]) * scale
        lift = high + rng.normal(0, 4)
        knots = [
            (15, -54 + 0.3 * lift, -52),
            (42, -66 + 0.5 * lift, -58),
            (82, -82 + lift, -42),
            (120, -92 + lift, -16),
            (150, -92 + lift, -2),
        ]
        curve = smooth_curve([np.array(knot) * across for knot in knots], 32)
        size = np.interp(np.linspace(0, 1, 32), [0, 0.12, 0.5, 1], [1.5, 1.1, 0.92, 1.15]) * thick
        mine = [each for each in breaks if each.rib == 0 and each.sign == side.sign]
        for line, radii in _broken(curve, size, mine[0] if mine else None, places):
            clavicles.append(Chain(line, radii, 0.82, 0.4, 0.9))
        shoulder = np.array([162, -78 + lift, 4]) * across
        if raised:
            hand = shoulder + np.array([30, -190, -60]) * across
            elbow = shoulder + np.array([20, -120, -50]) * across
        else:
            swing = np.radians(abducted + rng.normal(0, 5))
            elbow = shoulder + np.array([210 * np.sin(swing), 210 * np.cos(swing), 20]) * across
            hand = shoulder + np.array([330 * np.sin(swing), 330 * np.cos(swing), 20]) * across
        fat = max(0.0, body.torso.half_width - body.right.lung.width - 9)
        bulk = (56 * girth + 0.4 * fat) * rng.uniform(0.85, 1.15)
        arms.append(
            Chain(
                np.stack([shoulder + [-side.sign * 14, 10, 0] * scale, elbow, hand]),
                np.array([bulk, 0.92 * bulk, 0.8 * bulk]),
            )
        )
        head = shoulder + np.array([6, 10, 0]) * across
        others.append(Chain(np.stack([head, head + 0.1]), 22 * girth, 0.93, 0.55, 0.55))
        others.append(Chain(np.stack([head + (elbow - shoulder) * 0.12, elbow]), 11.5 * girth, 0.62, 0.1, 1.0))
        others += _scapula(border, lift, across, length)
    return clavicles, others, arms


def _scapula(border: float, lift: float, across: NDArray[np.float64], length: float) -> list[Chain]:
    behind = 72.0
    top = np.array([border - 4, -78 + lift, behind]) * across
    spine_root = np.array([border - 8, -55 + lift, behind + 6]) * across
    tip = np.array([border + 6, 68 + lift, behind + 4]) * across
    glenoid = np.array([148, -62 + lift, 22]) * across
    acromion = np.array([160, -96 + lift, 14]) * across
    coracoid = np.array([134, -78 + lift, -12]) * across
    blade = [
        Chain(np.stack([a, b]), 15 * length, depth=0.08)
        for a, b in ((spine_root, glenoid), (0.5 * (spine_root + tip), 0.5 * (glenoid + tip)))
    ]
    edges = [
        Chain(
            smooth_curve([top, spine_root, 0.5 * (spine_root + tip) - np.array([4, 0, 0]) * across, tip], 16),
            2.0 * length,
            0.4,
        ),
        Chain(
            smooth_curve([tip, 0.45 * tip + 0.55 * glenoid + np.array([2, 0, 0]) * across, glenoid], 16),
            3.6 * length,
            0.6,
            0.2,
        ),
        Chain(
            smooth_curve([spine_root, 0.5 * (spine_root + acromion) + np.array([0, -6, 6]) * across, acromion], 16),
            4.2 * length,
            0.66,
            0.2,
        ),
        Chain(np.stack([top, coracoid]), 2.0 * length, 0.3),
        Chain(np.stack([coracoid, coracoid + np.array([8, 4, -4]) * across]), 6.0 * length, 0.7, 0.3),
        Chain(
            np.stack([glenoid + np.array([2, -12, 0]) * across, glenoid + np.array([2, 12, 0]) * across]),
            5.0 * length,
            0.7,
            0.35,
        ),
    ]
    return [*blade, *edges]


def _spine(rng: np.random.Generator, body: Body) -> list[Chain]:
    """Vertebrae from the neck to the first lumbar ones."""
    length = body.scale
    bend, phase = rng.normal(0, 4) * length, rng.uniform(0, 6)
    kyphosis = rng.uniform(8, 26) * length
    chains: list[Chain] = []
    y = -205.0
    while y < 330:
        tall = 16.5 + 0.024 * (y + 170)
        half = 13.5 + 0.018 * (y + 170)
        z = 38 * length + kyphosis * (0.2 - ((y + 20) / 200) ** 2)
        corner = np.array([bend * np.sin(y / 120 + phase), y * length, z])
        chains += _vertebra(corner, tall * length, half * length, length, lateral=body.view is View.LATERAL)
        y += tall + 4.0
    return chains


def _vertebra(top: NDArray[np.float64], tall: float, half: float, length: float, *, lateral: bool) -> list[Chain]:
    """Body with end plates, pedicles, transverse and spinous processes; `top` is the middle of its upper end plate."""
    across = np.array([0, 0, half]) if lateral else np.array([half, 0, 0])
    down = np.array([0, tall, 0])
    inner = across * max(0.05, 1 - 0.4 * tall / half)
    middle = top + 0.5 * down
    chains = [Chain(np.stack([middle - inner, middle + inner]), 0.5 * tall, 0.9, 0.3, 0.45)]
    for edge in (0.06, 0.94):
        plate = top + edge * down
        chains.append(Chain(np.stack([plate - across, plate + across]), 1.1 * length, depth=2.2))
    if lateral:
        ends = np.stack([top + np.array([0, 0.4 * tall, half]), top + np.array([0, 1.2 * tall, half + 26 * length])])
        return [*chains, Chain(ends, 3.5 * length, 0.5, 0.3, 0.8)]
    for sign in (-1, 1):
        pedicle = top + np.array([sign * 0.66 * half, 0.36 * tall, 14 * length])
        chains.append(Chain(np.stack([pedicle, pedicle + np.array([0, 3.2 * length, 0])]), 3.4 * length, 0.6, 0.2, 1.6))
        process = top + np.array([sign * half, 0.4 * tall, 20 * length])
        outwards = np.array([sign * 14, -1, 12]) * length
        chains.append(Chain(np.stack([process, process + outwards]), 4.0 * length, 0.7, 0.3))
    spinous = top + np.array([0, 0.85 * tall, 45 * length])
    tip = spinous + np.array([0, 9 * length, 0])
    chains.append(Chain(np.stack([spinous, tip]), np.array([2.2, 3.0]) * length, 0.5, 0.3, 2.2))
    return chains


def _sternum(rng: np.random.Generator, body: Body) -> list[Chain]:
    lung = body.right.lung
    front = lung.centre_z - lung.depth - 6 * body.scale
    top = np.array([0, -58 * body.scale, front + 34 * body.scale])
    middle = np.array([0, -18 * body.scale, front + 8 * body.scale])
    low = np.array([0, 92 * body.scale, front + rng.uniform(-4, 6)])
    return [Chain(smooth_curve([top, middle, low], 16), 5.5 * body.scale, 0.8, 0.5, 2.6)]
