"""Lines outside of the patient, or of no interest in it, that could be taken for a tube, a catheter or a wire.

Called by foreign_objects.
"""

import numpy as np

from training.phantom.body import Body
from training.phantom.chains import Chain, smooth_curve
from training.phantom.device_parts import Course, Material, Part, Plate, on_skin


def draw_distractor_line(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """One line of any sort."""
    return _SORTS[rng.choice(len(_SORTS), p=_SHARES)](rng, body)


def _monitor_cable(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """Somewhere across the chest, on the skin or behind the back."""
    course = _across(rng, body)
    radius = rng.uniform(1.2, 2.2)
    return [
        Part(Material.PLASTIC, Chain(course, radius)),
        Part(Material.METAL, Chain(course, rng.uniform(0.35, 0.7), depth=0.45)),
    ]


def _oxygen_tubing(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """Clear tubing, sometimes with a stripe: two fine lines side by side."""
    course = _across(rng, body)
    radius = rng.uniform(2.2, 3.6)
    parts: list[Part | Plate] = [Part(Material.PLASTIC, Chain(course, radius, hollow=rng.uniform(0.6, 0.78)))]
    if rng.random() < 0.3:
        parts.append(Part(Material.RADIOPAQUE, Chain(course + np.array([0.7 * radius, 0, 0]), 0.4, depth=0.5)))
    return parts


def _bed_line(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """A straight edge or wire of mattress, cassette or gown behind the patient."""
    width, tilt = body.torso.half_width, rng.normal(0, 0.25)
    along = np.linspace(-1.6, 1.6, 12) * width
    if rng.random() < 0.5:
        course = np.stack([along, rng.uniform(-120, 180) * body.scale + tilt * along, 0 * along], axis=1)
    else:
        course = np.stack([rng.uniform(-1.1, 1.1) * width + tilt * along, along, 0 * along], axis=1)
    course[:, 2] = body.torso.centre_z + body.torso.half_depth + rng.uniform(5, 25)
    return [Part(Material.PLASTIC, Chain(course, rng.uniform(0.8, 2.5)))]


def _midline_line(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """Down the neck and over the chest near the midline, past the place where a tube would end: a drain, a cord."""
    x = rng.normal(0, 9, 4) * body.scale
    knots = np.stack([x * [2, 1, 1, 2], np.array([-230, -90, 20, 330]) * body.scale], axis=1)
    course = on_skin(body, smooth_curve(knots, 40), front=rng.random() < 0.8)
    if rng.random() < 0.5:
        radius = rng.uniform(2.5, 5.0)
        return [
            Part(Material.PLASTIC, Chain(course, radius, hollow=0.72)),
            Part(Material.RADIOPAQUE, Chain(course + np.array([0.8 * radius, 0, 0]), rng.uniform(0.3, 0.7), depth=0.5)),
        ]
    return [Part(Material.RADIOPAQUE, Chain(course, rng.uniform(0.5, 1.1), depth=0.6))]


def _temperature_probe(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """A thin wire with a sensor in the oesophagus, well below the carina."""
    gullet = body.oesophagus[: body.oesophagus_end + 1]
    above = gullet[0] + np.array([[0.0, -110, -30], [0.0, -50, 0]]) * body.scale
    end = int(len(gullet) * rng.uniform(0.78, 0.98))
    course = np.concatenate([smooth_curve([*above, gullet[0]], 12)[:-1], gullet[:end]])
    return [
        Part(Material.PLASTIC, Chain(course, 1.5)),
        Part(Material.METAL, Chain(course, 0.3, depth=0.4)),
        Part(Material.METAL, Chain(course[-3:], 1.3, depth=0.6)),
    ]


def _breathing_circuit(rng: np.random.Generator, body: Body) -> list[Part | Plate]:
    """Corrugated tubing over shoulder and neck."""
    sign = 1.0 if rng.random() < 0.5 else -1.0
    wide = body.torso.half_width
    knots = [
        (sign * wide * 1.3, rng.uniform(-80, 60) * body.scale),
        (sign * wide * 0.6, rng.uniform(-130, -80) * body.scale),
        (sign * 10, rng.uniform(-190, -150) * body.scale),
    ]
    course = on_skin(body, smooth_curve(knots, 120), front=True) - np.array([0, 0, 14])
    radius = rng.uniform(8, 11) * (0.5 + 0.5 * body.scale)
    rings = radius * (1 + 0.07 * np.sin(np.arange(120) * 2.1))
    return [Part(Material.PLASTIC, Chain(course, rings, hollow=0.86))]


def _across(rng: np.random.Generator, body: Body) -> Course:
    """From one side of the image to another, sagging, on the skin in front or behind the back."""
    wide, tall = 1.5 * body.torso.half_width, 1.0 * body.torso.half_width
    rim = [
        (-wide, rng.uniform(-0.8, 1.0) * tall), (wide, rng.uniform(-0.8, 1.0) * tall),
        (rng.uniform(-0.9, 0.9) * tall, -1.5 * tall), (rng.uniform(-0.9, 0.9) * tall, 1.9 * tall),
    ]  # fmt: skip
    first, last = rng.choice(4, 2, replace=False)
    start, end = np.array(rim[first]), np.array(rim[last])
    middle = 0.5 * (start + end) + rng.normal(0, 0.35 * tall, 2)
    knots = [start, 0.5 * (start + middle) + rng.normal(0, 9, 2), middle, 0.5 * (middle + end), end]
    return on_skin(body, smooth_curve(knots, 44), front=rng.random() < 0.75)


_SORTS = (_monitor_cable, _oxygen_tubing, _bed_line, _midline_line, _temperature_probe, _breathing_circuit)
_SHARES = (0.26, 0.24, 0.15, 0.17, 0.08, 0.10)
