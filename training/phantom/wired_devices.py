"""What has wires: the pacemaker with its leads, and ECG leads on the skin. Called by devices."""

import numpy as np

from training.phantom.body import Body
from training.phantom.chains import Chain, smooth_curve
from training.phantom.device_parts import (
    Course,
    Material,
    Part,
    PlacedDevice,
    Plate,
    disc,
    join,
    on_skin,
    short_of_tip,
)
from training.phantom.position_rules import body_share
from training.phantom.truth import DeviceKind, Family


def draw_pacemaker(rng: np.random.Generator, body: Body, family: Family) -> tuple[PlacedDevice, ...]:
    """A generator below the clavicle, one lead to the apex of the right ventricle and often one to the atrium.

    One device per lead; the first one carries the generator. No position rule: a lead's place needs two views.
    """
    side = body.left if rng.random() < 0.8 else body.right
    size = body_share(body.age_years) ** 0.5
    across = np.array([side.sign, 1, 1])
    defibrillator = rng.random() < (0.3 if family is Family.TRAINING else 0.2)
    place = np.array([rng.normal(98, 8), rng.normal(-38, 8), 0]) * body.scale * across
    place = body.skin(place[0], place[1]) + np.array([0, 0, 9])
    can = _generator(rng, place, (30 if defibrillator else 23) * size, (11 if defibrillator else 7) * 0.8)
    vein = side.subclavian[38:]
    inside = [side.brachiocephalic, body.superior_vena_cava, body.right_atrium]
    ends = [body.right_ventricle]
    if rng.random() < 0.65:
        ends.append(_appendage(body))
    leads = []
    for number, end in enumerate(ends):
        path = inside if number == 0 else [*inside[:2], body.right_atrium[:2]]
        course = join(_pocket(rng, place, vein[0], size), vein, *path, end)
        radius = rng.uniform(0.9, 1.2)
        lead = short_of_tip(course, radius)
        wire = Part(Material.METAL, Chain(lead, 0.45 * radius, hollow=0.5, depth=0.55))
        insulation = Part(Material.PLASTIC, Chain(lead, radius))
        rings = [
            Part(Material.METAL, Chain(lead[-2:], 0.95 * radius, depth=0.8)),
            Part(Material.METAL, Chain(lead[-9:-7], 0.95 * radius, depth=0.8)),
        ]
        if defibrillator and number == 0:
            rings.append(Part(Material.METAL, Chain(lead[-36:-10], 1.4 * radius, hollow=0.5, depth=0.7)))
        parts: tuple[Part | Plate, ...] = (wire, insulation, *rings, *(can if number == 0 else ()))
        leads.append(PlacedDevice(DeviceKind.PACEMAKER, course, radius, parts, None))
    return tuple(leads)


def draw_ecg_leads(rng: np.random.Generator, body: Body, family: Family) -> tuple[PlacedDevice, ...]:
    """Three to five electrodes on the chest, each with its clip or stud and a wire that leaves the image."""
    out = body.torso.half_width * 0.72
    sites = np.array([[-out, -48], [out, -48], [out, 118], [-out, 118], [0.25 * out, 45], [0.6 * out, 78]])
    sites[:, 1] *= body.scale
    chosen = sites[rng.permutation(len(sites))[: rng.integers(3, 6)]]
    # The cables run together, over one shoulder or to one side.
    sign = 1.0 if rng.random() < 0.5 else -1.0
    ends = np.array([[sign * 0.6 * out, -230], [sign * 2.2 * out, rng.uniform(-20, 160)], [sign * 0.5 * out, 300]])
    end = ends[rng.integers(3)] * [1, body.scale]
    carbon = rng.random() < 0.2
    style = rng.integers(2 if family is Family.TRAINING else 3)
    return tuple(_lead(rng, body, site, end, carbon, int(style)) for site in chosen)


def _lead(rng: np.random.Generator, body: Body, site: Course, end: Course, carbon: bool, style: int) -> PlacedDevice:
    site = site + rng.normal(0, 9, 2) * body.scale
    start = body.skin(*site) - [0, 0, 2]
    middle = 0.5 * (site + end) + rng.normal(0, 30, 2) * body.scale
    finish = end + rng.normal(0, 6, 2)
    flat = smooth_curve([site, 0.8 * site + 0.2 * middle + rng.normal(0, 8, 2), middle, finish], 40)
    course = on_skin(body, flat, front=True)
    # Towards the end of the lead on the patient: its tip is the electrode.
    course = course[::-1].copy()
    course[-1] = start
    radius = rng.uniform(1.0, 1.5)
    parts: list[Part | Plate] = [Part(Material.PLASTIC, Chain(course, radius))]
    if not carbon:
        parts.append(Part(Material.METAL, Chain(course, rng.uniform(0.4, 0.7), depth=0.45)))
    parts += [Plate(Material.PLASTIC, disc(start, rng.uniform(12, 20) * (0.5 + 0.5 * body.scale)), 1.2)]
    if style == 1:
        # A crocodile clip: two jaws and a spring.
        tilt = rng.uniform(0, np.pi)
        jaw = np.array([np.cos(tilt), np.sin(tilt), 0])
        for offset in (-2.2, 2.2):
            line = np.array([start - 7 * jaw, start + 9 * jaw]) + offset * np.array([-jaw[1], jaw[0], 0])
            parts.append(Part(Material.METAL, Chain(line, 0.9, depth=0.5)))
        parts.append(Part(Material.METAL, Chain(disc(start - 3 * jaw, 3.0), 0.5, depth=0.5)))
    else:
        stud = 0.35 if style == 0 else 0.8
        parts.append(Plate(Material.METAL, disc(start, rng.uniform(3.5, 5.5)), stud))
    return PlacedDevice(DeviceKind.ECG_LEADS, course, radius, tuple(parts), None)


def _generator(rng: np.random.Generator, place: Course, radius: float, steel: float) -> tuple[Plate, ...]:
    """A rounded case with a battery inside and a connector block of plastic on top, facing the ray."""
    angle = rng.uniform(-0.5, 0.5)
    around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    shape = np.stack([np.cos(around), 0.88 * np.sin(around), 0 * around], axis=1)
    shape = np.sign(shape) * np.abs(shape) ** 0.75 * radius
    turned = shape @ np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    block = turned * [0.62, 0.25, 1] + [0, -0.95 * radius, 0]
    battery = turned * [0.55, 0.8, 1] + [0.3 * radius, 0, 0]
    return (
        Plate(Material.METAL, place + turned, 0.5 * steel),
        Plate(Material.METAL, place + battery, steel),
        Plate(Material.PLASTIC, place + block, 8.0),
        Plate(Material.METAL, place + block * [0.6, 1, 1] + [0, 0.35 * radius, 0], 0.6 * steel),
    )


def _pocket(rng: np.random.Generator, place: Course, vein: Course, size: float) -> Course:
    """From the connector around the case, where surplus lead is coiled, up into the vein."""
    around = np.linspace(-0.5, rng.uniform(1.2, 1.8), 20) * np.pi * (1 if rng.random() < 0.5 else -1)
    loop = np.stack([np.cos(around), np.sin(around), 0 * around], axis=1) * rng.uniform(26, 31) * size + place
    return np.concatenate([loop, 0.5 * (loop[-1:] + vein[None]) - [0, 0, 6]])


def _appendage(body: Body) -> Course:
    """From the upper atrium forwards and up: the J of an atrial lead."""
    low = body.right_atrium[len(body.right_atrium) // 3]
    reach = np.array([14, -22, -24]) * body.scale
    dip = np.array([0.5 * reach[0], 10 * body.scale, 0.4 * reach[2]])
    return smooth_curve([low, low + dip, low + reach], 24)
