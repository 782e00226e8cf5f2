"""Findings inside the lungs and the pleural space as changes of what each ray crosses.

Called by render.py on the coarse grid of thorax.py; what is fine (nodules, plates, lines) comes as chains.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from schemas.codes import Finding
from training.phantom.body import Body, Side
from training.phantom.chains import Chain
from training.phantom.findings import Plan
from training.phantom.geometry import Geometry
from training.phantom.shapes import cavity_depth, diaphragm, lateral_border, medial_border
from training.phantom.thorax import Layers
from training.phantom.truth import View

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(eq=False)
class Opacities:
    """What findings do to the lungs; arrays are [rows, columns] of the coarse grid."""

    #: Share of the lung's air that is left, 0..1.
    aerated: Field
    #: Below 0 inside free air: signed distance in mm from the visceral pleura; None without a pneumothorax.
    pleura: Field | None = None
    #: Share of the air that a finding took, for its mask and its visibility.
    taken: dict[Finding, Field] = field(default_factory=dict)
    #: Solid lumps and plates of soft tissue in the lung.
    lumps: dict[Finding, list[Chain]] = field(default_factory=dict)
    #: Thickened septa: as vessels, but fine.
    septa: list[Chain] = field(default_factory=list)
    #: mm of reticular tissue at the most.
    reticulation: Field | None = None


def draw_opacities(
    rng: np.random.Generator, plan: Plan, body: Body, layers: Layers, geometry: Geometry, frayed: Field
) -> Opacities:
    """`frayed`, unit noise [rows, columns], keeps edges from being formulas."""
    nothing = np.zeros_like(layers.body)
    out = Opacities(aerated=np.ones_like(nothing))
    sides = (body.right, body.left)
    lungs = (layers.right_lung, layers.left_lung)
    for side, lung, wet, collapsed in zip(sides, lungs, plan.effusion, plan.pneumothorax, strict=True):
        if wet:
            fluid = _effusion(rng, body, side, layers, geometry.view) * (lung > 0)
            out.taken[Finding.PLEURAL_EFFUSION] = np.maximum(fluid, out.taken.get(Finding.PLEURAL_EFFUSION, nothing))
        if collapsed:
            out.pleura = np.where(lung > 0, _pneumothorax(rng, body, side, layers), np.float32(50))
    if plan.has(Finding.CONSOLIDATION):
        out.taken[Finding.CONSOLIDATION] = _consolidation(rng, body, geometry, frayed, dense=True)
    if plan.has(Finding.LUNG_OPACITY):
        out.taken[Finding.LUNG_OPACITY] = _peripheral(rng, body, geometry, frayed)
    if plan.has(Finding.EDEMA):
        out.taken[Finding.EDEMA] = _edema(rng, body, geometry, frayed)
        out.septa = _septal_lines(rng, body)
    if plan.has(Finding.FIBROSIS):
        low = np.clip((layers.height - 0.1 * body.right.lung.dome) / (0.8 * body.right.lung.dome), 0, 1)
        out.reticulation = (rng.uniform(6, 14) * low * (0.25 + 0.75 * layers.share**2)).astype(np.float32)
        out.taken[Finding.FIBROSIS] = (0.18 * low * (0.3 + 0.7 * layers.share**2)).astype(np.float32)
    if plan.has(Finding.NODULE):
        count = 1 if rng.random() < 0.7 else int(rng.integers(2, 5))
        out.lumps[Finding.NODULE] = [_lump(rng, body, rng.uniform(4, 15)) for _ in range(count)]
    if plan.has(Finding.MASS):
        out.lumps[Finding.MASS] = [_lump(rng, body, rng.uniform(17, 36))]
    if plan.has(Finding.ATELECTASIS):
        if rng.random() < 0.65:
            out.lumps[Finding.ATELECTASIS] = [_plate(rng, body) for _ in range(rng.integers(1, 4))]
        else:
            out.taken[Finding.ATELECTASIS] = _collapse(rng, body, layers, geometry, frayed)
    for taken in out.taken.values():
        out.aerated = out.aerated * (1 - np.clip(taken, 0, 1))
    out.aerated = out.aerated.astype(np.float32)
    return out


def place_in_lung(
    rng: np.random.Generator, side: Side, inner: float, outer: float, low: float = 0.9
) -> NDArray[np.float64]:
    """A point of the lung, patient mm [3]: `inner`..`outer` of the way from the mediastinum to the chest wall."""
    lung = side.lung
    y = lung.apex + rng.uniform(0.14, low) * (lung.dome - lung.apex)
    medial, lateral = max(medial_border(lung, y), 18 * lung.scale), lateral_border(lung, y)
    x = medial + rng.uniform(inner, outer) * (lateral - medial)
    y = min(y, diaphragm(lung, x) - 12 * lung.scale)
    z = lung.centre_z + rng.uniform(-0.6, 0.6) * cavity_depth(lung, x, y)
    return np.array([side.sign * x, y, z])


def _either(rng: np.random.Generator, body: Body) -> Side:
    return body.right if rng.random() < 0.5 else body.left


def _effusion(rng: np.random.Generator, body: Body, side: Side, layers: Layers, view: View) -> Field:
    lung = side.lung
    depth = np.exp(rng.uniform(np.log(22), np.log(150))) * body.scale
    if view is View.AP and rng.random() < 0.6:
        # Supine, fluid spreads behind the lung: a veil that grows towards the base, and blunts the angle.
        path = layers.right_lung if side.sign < 0 else layers.left_lung
        veil = np.clip((layers.height - (lung.angle - 1.6 * depth - 60 * body.scale)) / (190 * body.scale), 0, 1)
        share = np.clip(veil * 0.45 * depth / np.maximum(path, 12), 0, 1)
        blunt = np.clip((layers.height - (lung.angle - 0.35 * depth - 22 * layers.share**3)) / 14, 0, 1)
        return np.asarray(np.maximum(share, blunt), dtype=np.float32)
    rise = rng.uniform(14, 48) * body.scale
    meniscus = lung.angle - depth - rise * layers.share**3 + 0.25 * rise * (layers.share - 0.5)
    return np.asarray(np.clip((layers.height - meniscus) / (16 * body.scale), 0, 1), dtype=np.float32)


def _pneumothorax(rng: np.random.Generator, body: Body, side: Side, layers: Layers) -> Field:
    """Signed distance from the visceral pleura, mm: negative in free air."""
    lung = side.lung
    width = rng.uniform(9, 48) * body.scale
    down = np.clip((layers.height - lung.apex) / (lung.dome - lung.apex), 0, 1.3)
    reach = width * (1 - rng.uniform(0.4, 0.9) * down)
    wall = np.maximum((1 - layers.share) * lung.width, 0.5)
    top = np.maximum(0.75 * (layers.height - lung.apex), 0.5)
    return np.asarray(1 / np.sqrt(1 / wall**2 + 1 / top**2) - reach, dtype=np.float32)


def _blob(geometry: Geometry, centre: NDArray[np.float64], radii_mm: NDArray[np.float64], turn: float) -> Field:
    """Squared distance from a point of the patient in radii, float32 [rows, columns]."""
    pixels, magnification = geometry.project(centre[None])
    scale = geometry.imager_mm_per_pixel / float(magnification[0])
    y = (np.arange(geometry.rows, dtype=np.float32)[:, None] + 0.5 - pixels[0, 1]) * scale
    x = (np.arange(geometry.columns, dtype=np.float32)[None, :] + 0.5 - pixels[0, 0]) * scale
    along, across = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    return np.asarray((along / radii_mm[0]) ** 2 + (across / radii_mm[1]) ** 2, dtype=np.float32)


def _consolidation(rng: np.random.Generator, body: Body, geometry: Geometry, frayed: Field, dense: bool) -> Field:
    taken = np.zeros_like(frayed)
    side = _either(rng, body)
    for _ in range(rng.integers(1, 4)):
        if rng.random() < 0.25:
            side = _either(rng, body)
        centre = place_in_lung(rng, side, 0.1, 0.85)
        radii = rng.uniform(16, 52, 2) * body.scale
        square = _blob(geometry, centre, radii, rng.uniform(0, np.pi))
        edge = rng.uniform(0.3, 0.8)
        strength = rng.uniform(0.45, 0.95) if dense else rng.uniform(0.2, 0.5)
        blob = 1 / (1 + np.exp(np.minimum((square - 1 - 0.4 * frayed) / edge, 30)))
        taken = np.maximum(taken, strength * blob * (1 + 0.12 * frayed))
    return np.clip(taken, 0, 0.96).astype(np.float32)


def _peripheral(rng: np.random.Generator, body: Body, geometry: Geometry, frayed: Field) -> Field:
    """Patches of ground glass below the pleura, mostly on both sides and low."""
    taken = np.zeros_like(frayed)
    for side in (body.right, body.left) if rng.random() < 0.75 else (_either(rng, body),):
        for _ in range(rng.integers(1, 4)):
            centre = place_in_lung(rng, side, 0.68, 0.98)
            square = _blob(geometry, centre, rng.uniform(11, 32, 2) * body.scale, rng.uniform(0, np.pi))
            patch = np.exp(-square) * (1 + 0.5 * frayed) * rng.uniform(0.3, 0.65)
            taken = np.maximum(taken, patch)
    return np.clip(taken, 0, 0.8).astype(np.float32)


def _edema(rng: np.random.Generator, body: Body, geometry: Geometry, frayed: Field) -> Field:
    """Around both hila, fading outwards."""
    taken = np.zeros_like(frayed)
    strength, radius = rng.uniform(0.28, 0.62), rng.uniform(48, 85) * body.scale
    for side in (body.right, body.left):
        centre = side.hilum + np.array([side.sign * 14, 22, 0]) * body.scale
        square = _blob(geometry, centre, np.array([radius, 1.25 * radius]), 0.0)
        taken = np.maximum(taken, strength * rng.uniform(0.85, 1.1) * np.exp(-square) * (1 + 0.35 * frayed))
    return np.clip(taken, 0, 0.85).astype(np.float32)


def _septal_lines(rng: np.random.Generator, body: Body) -> list[Chain]:
    """Kerley B: short level lines that reach the pleura at the bases."""
    chains = []
    for side in (body.right, body.left):
        lung = side.lung
        for _ in range(rng.integers(4, 12)):
            y = lung.dome + lung.drop * rng.uniform(-0.9, 0.4)
            outer = lateral_border(lung, y) - 2
            length = rng.uniform(9, 20) * body.scale
            z = lung.centre_z + rng.uniform(-0.3, 0.3) * lung.depth
            ends = np.array([(side.sign * outer, y, z), (side.sign * (outer - length), y + rng.normal(0, 1), z)])
            chains.append(Chain(ends, 0.45 * body.scale, depth=8.0))
    return chains


def _lump(rng: np.random.Generator, body: Body, radius: float) -> Chain:
    """A lump, a little out of round."""
    side = _either(rng, body)
    radius = radius * body.scale**0.5
    centre = place_in_lung(rng, side, 0.12, 0.88)
    points = centre + rng.normal(0, 0.32 * radius, (7, 3))
    return Chain(points, radius * rng.uniform(0.5, 0.95, 7))


def _plate(rng: np.random.Generator, body: Body) -> Chain:
    """A level band in the lower half, thin and deep."""
    side = _either(rng, body)
    centre = place_in_lung(rng, side, 0.25, 0.7)
    floor = side.lung.dome
    centre[1] = min(floor - rng.uniform(4, 45) * body.scale, floor - 4)
    length, slope = rng.uniform(24, 70) * body.scale, rng.normal(0, 0.25)
    along = np.linspace(-0.5, 0.5, 9)[:, None] * np.array([length, slope * length, 0])
    along[:, 1] += rng.normal(0, 3) * np.linspace(-1, 1, 9) ** 2
    return Chain(
        centre + along,
        np.array([0.5, 1, 1.3, 1.4, 1.5, 1.4, 1.3, 1, 0.5]) * rng.uniform(0.8, 2.0) * body.scale,
        depth=7.0,
    )


def _collapse(rng: np.random.Generator, body: Body, layers: Layers, geometry: Geometry, frayed: Field) -> Field:
    """A lower lobe: a triangle behind the heart (left) or beside it."""
    side = body.left if rng.random() < 0.65 else body.right
    lung = side.lung
    top = rng.uniform(0.2, 0.55) * lung.dome
    down = np.clip((layers.height - top) / (lung.dome - top), 0, 1.4)
    edge = 0.06 + rng.uniform(0.32, 0.55) * down
    inside = 1 / (1 + np.exp((layers.share - edge + 0.02 * frayed) / 0.025))
    path = layers.right_lung if side.sign < 0 else layers.left_lung
    return np.asarray(rng.uniform(0.7, 0.95) * inside * (down > 0) * (path > 0), dtype=np.float32)
