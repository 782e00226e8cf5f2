"""The endotracheal tube: how far it goes, how it bends, how its make shows. Called by devices."""

from enum import StrEnum

import numpy as np

from training.phantom.body import Body, Side
from training.phantom.chains import Chain, resample, smooth_curve
from training.phantom.device_parts import Course, Material, Part, PlacedDevice, beside, short_of_tip
from training.phantom.makes import ENDOTRACHEAL, TubeMake
from training.phantom.position_rules import Lies, endotracheal_position
from training.phantom.truth import DeviceKind, Family
from workers.tube_limits import ADULT_AGE_YEARS, TubeLimits, endotracheal_limits, trachea_length_mm

#: Tip above the carina in mm of an adult that is drawn at all; below 0 the tip lies in a main bronchus.
DISTANCE_RANGE_MM = (-30.0, 110.0)
#: Share of tubes drawn within the borderline margin of a limit on purpose; chance adds as many again.
_NEAR_LIMITS = 0.25
_OESOPHAGEAL = 0.03
#: What is left of the radius at the end of the bevel.
_BEVEL = 0.35
#: Right main bronchi are steeper and wider: most tubes that go too far go there.
_RIGHT_BRONCHUS = 0.75


class TubeChoice(StrEnum):
    """Which endotracheal tube is asked for."""

    ANY = "any"
    WELL_PLACED = "well-placed"
    MALPOSITIONED = "malpositioned"
    ABSENT = "absent"


def draw_endotracheal_tube(
    rng: np.random.Generator, body: Body, family: Family, choice: TubeChoice = TubeChoice.ANY
) -> PlacedDevice:
    """A tube whose tip lies anywhere from a main bronchus to the larynx, as `choice` wants it."""
    limits = endotracheal_limits(body.age_years)
    distance = _draw_distance(
        rng, limits, choice, trachea_length_mm(body.age_years) / trachea_length_mm(ADULT_AGE_YEARS)
    )
    # The larynx keeps it from being higher.
    distance = min(distance, -float(body.trachea[0, 1]) - 4 * body.scale)
    # Inner diameter in mm of a child's uncuffed tube: age / 4 + 4 (Cole 1957); the wall makes it a third wider.
    inner = body.age_years / 4 + 4 if body.age_years < 16 else rng.uniform(7.0, 8.0) + 0.5 * (body.sex == "M")
    radius = min(0.66 * min(inner, 8.5), 0.85 * body.trachea_radius)
    makes = ENDOTRACHEAL[family]
    make = makes[rng.integers(len(makes))]
    if choice is TubeChoice.ANY and rng.random() < _OESOPHAGEAL:
        lies = Lies.OESOPHAGUS
        course = _through_oesophagus(rng, body, distance)
    else:
        right = rng.random() < _RIGHT_BRONCHUS
        lies = Lies.TRACHEA if distance >= 0 else Lies.RIGHT_BRONCHUS if right else Lies.LEFT_BRONCHUS
        course = _through_trachea(rng, body, distance, body.right if right else body.left, radius)
    parts = _parts(rng, course, radius, make)
    if lies is Lies.OESOPHAGUS:
        parts.append(Part(Material.AIR, Chain(course, radius * make.hollow)))
    elif body.age_years > 8 and distance > 0 and rng.random() < 0.6:
        parts.append(_cuff(rng, course, body))
    tip_to_carina = -float(course[-1, 1])
    return PlacedDevice(
        kind=DeviceKind.ENDOTRACHEAL_TUBE,
        course=course,
        radius_mm=radius,
        parts=tuple(parts),
        judgement=endotracheal_position(tip_to_carina, lies, body.age_years),
        tip_to_carina_mm=tip_to_carina,
    )


def _draw_distance(rng: np.random.Generator, limits: TubeLimits, choice: TubeChoice, share: float) -> float:
    """Tip above the carina in mm; `share` is this trachea's length over an adult's."""
    lowest, highest = (share * end for end in DISTANCE_RANGE_MM)
    if choice is TubeChoice.WELL_PLACED:
        inset = 0.3 * limits.borderline
        return float(rng.uniform(limits.low + inset, limits.high - inset))
    if choice is TubeChoice.MALPOSITIONED:
        clear = 1.5 * limits.borderline
        low, high = (lowest, limits.low - clear) if rng.random() < 0.6 else (limits.high + clear, highest)
        return float(rng.uniform(low, high))
    if rng.random() < _NEAR_LIMITS:
        limit = limits.low if rng.random() < 0.5 else limits.high
        return float(limit + rng.uniform(-1, 1) * limits.borderline)
    return float(rng.uniform(lowest, highest))


def _from_the_mouth(rng: np.random.Generator, body: Body, throat: Course) -> Course:
    """From the lips over the tongue down to `throat`, which lies near the larynx; the head may be turned."""
    turn = rng.normal(0, 16)
    knots = np.array([[turn, -112, -62], [0.6 * turn, -92, -22], [0.25 * turn, -52, 2], [0, 0, 0]]) * body.scale
    return np.asarray(smooth_curve(knots, 40)[:-1] + throat)


def _through_trachea(rng: np.random.Generator, body: Body, distance: float, side: Side, radius: float) -> Course:
    airway = np.concatenate([body.trachea, side.bronchus[1:]])
    rows = np.append(np.arange(airway[0, 1], -distance, 2.0), -distance)
    inside = np.stack([np.interp(rows, airway[:, 1], airway[:, axis]) for axis in range(3)], axis=1)
    inside[:, 1] = rows
    # A stiff tube lies against one wall, then the other, but never outside the airway; it has no room in a bronchus.
    room = np.interp(rows, [-6.0, 12.0], [1.0, 0.35]) * max(0.0, 0.95 * body.trachea_radius - radius)
    wave, phase = rng.uniform(45, 110) * body.scale, rng.uniform(0, 6.3, 2)
    inside[:, 0] += room * np.sin(rows / wave + phase[0])
    inside[:, 2] += room * np.sin(rows / wave + phase[1])
    return np.concatenate([_from_the_mouth(rng, body, inside[0]), inside])


def _through_oesophagus(rng: np.random.Generator, body: Body, distance: float) -> Course:
    gullet = body.oesophagus[: body.oesophagus_end]
    start = int(np.argmin(np.abs(gullet[:, 1] - body.trachea[0, 1])))
    rows = np.append(np.arange(gullet[start, 1], -distance, 2.0), -distance)
    inside = np.stack([np.interp(rows, gullet[start:, 1], gullet[start:, axis]) for axis in range(3)], axis=1)
    return np.concatenate([_from_the_mouth(rng, body, inside[0]), inside])


def _parts(rng: np.random.Generator, course: Course, radius: float, make: TubeMake) -> list[Part]:
    """Wall with a bevelled end, stripe or stripes, eye."""
    fine = resample(short_of_tip(course, _BEVEL * radius), 1.5)
    to_tip = np.linalg.norm(fine - fine[-1], axis=1)
    to_tip[: len(fine) // 2] = 1e3
    # The bevel looks to one side and is longer than the tube is wide.
    shrunk = radius * np.clip(_BEVEL + (1 - _BEVEL) * to_tip / (2.2 * radius), _BEVEL, 1)
    bevel = rng.uniform(0, 2 * np.pi)
    leaning = fine + (beside(fine, 1.0, bevel) - fine) * (radius - shrunk)[:, None]
    parts = [Part(Material.PLASTIC, Chain(leaning, shrunk, hollow=make.hollow))]
    if make.loaded_wall:
        parts.append(Part(Material.RADIOPAQUE, Chain(leaning, shrunk, hollow=make.hollow, depth=make.loaded_wall)))
    thickness = max(0.25, make.stripe * radius / 5)
    angle = rng.uniform(0, 2 * np.pi)
    middle = radius * (1 + make.hollow) / 2
    for number in range(make.stripes):
        stripe = beside(fine, middle, angle + 2 * np.pi * number / make.stripes)
        kept = to_tip >= make.stripe_short
        parts.append(Part(Material.RADIOPAQUE, Chain(stripe[kept], thickness, depth=make.stripe_depth)))
    if make.eye:
        eye = beside(fine, middle, bevel + np.pi)[(to_tip > 2.0 * radius) & (to_tip < 3.4 * radius)]
        if len(eye) >= 2:
            parts.append(Part(Material.PLASTIC, Chain(eye, 0.4 * radius, depth=(1 - make.hollow)), removes=True))
    return parts


def _cuff(rng: np.random.Generator, course: Course, body: Body) -> Part:
    """A thin balloon against the tracheal wall, from about 15 to 45 mm above the tip."""
    start, length = rng.uniform(12, 20), rng.uniform(22, 32)
    above_tip = course[-1, 1] - course[:, 1]
    held = course[(above_tip > start * body.scale) & (above_tip < (start + length) * body.scale)]
    radius = body.trachea_radius * rng.uniform(0.95, 1.15)
    return Part(Material.PLASTIC, Chain(held, radius, hollow=0.97))
