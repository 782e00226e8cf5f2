"""Hand, knee, skull and abdomen of simple solids: radiographs that are none of the chest. Called by not_chest.

Each draws path lengths in mm as they come, in the frame of the part: x to the image's right, y down, z to the back.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.phantom.chains import Chain, project_chains, smooth_curve
from training.phantom.geometry import Geometry

Field = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class BodyPart:
    """Chains of one part; bone counts beyond the soft tissue that it replaces, gas takes soft tissue away."""

    soft: tuple[Chain, ...]
    bone: tuple[Chain, ...]
    gas: tuple[Chain, ...]
    #: What the image shows of it, mm from side to side.
    field_mm: float
    #: What is no bone inside of a bone.
    cavities: tuple[Chain, ...] = ()

    def water(self, geometry: Geometry) -> Field:
        """Soft tissue, float32 [rows, columns] in mm; overlapping pieces do not add up."""
        layers = [project_chains([chain], geometry) for chain in self.soft]
        tissue = np.maximum.reduce(layers)
        return np.asarray(np.maximum(tissue - project_chains(self.gas, geometry), 0.1 * tissue), dtype=np.float32)

    def bones(self, geometry: Geometry) -> Field:
        """float32 [rows, columns] in mm."""
        solid = project_chains(self.bone, geometry)
        return np.asarray(np.maximum(solid - project_chains(self.cavities, geometry), 0), dtype=np.float32)


def hand(rng: np.random.Generator) -> BodyPart:
    """Fingers spread or closed, wrist and forearm."""
    spread, left = rng.uniform(0.4, 1.4), rng.choice([-1.0, 1.0])
    size = rng.uniform(0.6, 1.05)
    soft = [
        Chain(_line([0, 38, 0], [0, -14, 0]), 37 * size, depth=0.36),
        Chain(_line([0, 60, 0], [0, 190, 0]), 27 * size),
    ]
    bone = []
    roots = [(-30, 22, -0.85), (-21, -22, -0.22), (-7, -28, -0.05), (7, -25, 0.12), (20, -17, 0.28)]
    lengths = [(44, 30, 24), (66, 40, 24, 18), (64, 44, 28, 18), (58, 40, 26, 18), (52, 32, 20, 16)]
    for (x, y, angle), pieces in zip(roots, lengths, strict=True):
        at = np.array([left * 0.72 * x, y + 62.0, 0.0])
        turn = angle * spread if x > -30 else angle
        for number, piece in enumerate(pieces):
            step = piece * np.array([left * np.sin(turn), -np.cos(turn), 0.0])
            turn += rng.normal(0, 0.03)
            end = at + 0.93 * step
            waist = (4.4 - 0.55 * number) * np.array([1.25, 0.95, 0.85, 0.95, 1.15])
            bone.append(Chain(size * np.linspace(at, end, 5), size * waist, hollow=0.62, filling=0.35))
            if number:
                soft.append(Chain(size * _line(at, end), size * (9.5 - 0.9 * number)))
            at = at + step
    for _ in range(8):
        place = np.array([rng.uniform(-17, 17), rng.uniform(68, 88), rng.uniform(-4, 4)])
        bone.append(Chain(size * (place + np.array([[-3.0, 0, 0], [3.0, 0, 0]])), size * 6, hollow=0.7, filling=0.5))
    for across in (-10.0, 11.0):
        shaft = np.linspace([across, 94, 0], [0.7 * across, 200, 0], 6)
        bone.append(Chain(size * shaft, size * np.array([9, 6.5, 5.5, 5.5, 6, 6]), hollow=0.6, filling=0.3))
    return BodyPart(tuple(soft), tuple(bone), (), field_mm=rng.uniform(230, 290) * size)


def knee(rng: np.random.Generator) -> BodyPart:
    """Femur, tibia, fibula and patella, from the front."""
    size, left = rng.uniform(0.7, 1.1), rng.choice([-1.0, 1.0])
    thigh = np.array([68, 62, 58, 55, 52, 48]) * rng.uniform(0.9, 1.2)
    soft = [Chain(size * np.linspace([0, -190, 0], [0, 190, 0], 6), size * thigh)]
    femur = size * np.linspace([left * 8, -190, 0], [0, -6, 0], 6)
    tibia = size * np.linspace([0, 8, 0], [left * 3, 190, 0], 6)
    fibula = size * np.linspace([left * 38, 24, 8], [left * 30, 190, 8], 4)
    bone = [
        Chain(femur, size * np.array([15, 15, 16, 20, 29, 33]), hollow=0.68, filling=0.3),
        Chain(size * np.array([[-20.0, -8, 0], [-18, -20, 0]]), size * 19, hollow=0.8, filling=0.5),
        Chain(size * np.array([[20.0, -8, 0], [18, -20, 0]]), size * 19, hollow=0.8, filling=0.5),
        Chain(tibia, size * np.array([36, 27, 18, 15, 14, 14]), hollow=0.68, filling=0.3),
        Chain(fibula, size * np.array([10, 7, 6, 6.5]), hollow=0.55, filling=0.3),
        Chain(size * np.array([[left * 3.0, -38, -30], [left * 3.0, -26, -30]]), size * 20, hollow=0.85, filling=0.4),
    ]
    return BodyPart(tuple(soft), tuple(bone), (), field_mm=rng.uniform(210, 300) * size)


def skull(rng: np.random.Generator) -> BodyPart:
    """Cranial vault, orbits, jaws with teeth, cervical spine, from the front."""
    size = rng.uniform(0.75, 1.05)
    levels = np.linspace(-1, 1, 17)
    vault = 76 * np.sqrt(np.maximum(1 - levels**2, 0.004))
    axis = np.stack([0 * levels, 92 * levels - 40, 0 * levels], axis=1)
    neck = np.linspace([0, 40, 10], [0, 200, 20], 5)
    soft = [Chain(size * axis, size * (vault + 6)), Chain(size * neck, size * np.array([62, 56, 55, 60, 85]))]
    bone = [Chain(size * axis, size * vault)]
    brain = Chain(size * (0.92 * axis + [0, -3.2, 0]), size * 0.92 * vault)
    gas = []
    for side in (-1.0, 1.0):
        around = np.linspace(0, 2 * np.pi, 20)
        rim = np.stack([side * 33 + 19 * np.cos(around), -8 + 17 * np.sin(around), 0 * around - 60], axis=1)
        bone.append(Chain(size * rim, size * 3.0))
        bone.append(Chain(size * np.array([[side * 50, 12, -50], [side * 24, 28, -60]]), size * 6))
        jaw = smooth_curve([[side * 52, 20, -10], [side * 48, 58, -25], [side * 26, 78, -58], [0, 84, -66]], 20)
        bone.append(Chain(size * jaw, size * 7.0, hollow=0.6, filling=0.4))
        gas.append(Chain(size * np.array([[side * 24, 14, -40], [side * 20, 30, -40]]), size * 11))
        bone.append(Chain(size * np.array([[side * 58, 8, 0], [side * 56, 22, 0]]), size * 9, depth=1.5))
        for row in (50.0, 66.0):
            for number in range(7):
                tooth = np.array([[side * (3 + 6 * number), row, -60.0 + 4 * number]])
                bone.append(Chain(size * np.concatenate([tooth, tooth + np.array([0, 9, 0])]), size * 2.9, depth=2.0))
    gas.append(Chain(size * np.array([[0.0, -2, -45], [0, 32, -45]]), size * 8))
    for y in np.arange(62, 190, 19):
        bone.append(Chain(size * np.array([[-7.0, y, 20], [7, y, 20]]), size * 8, hollow=0.75, filling=0.4))
    return BodyPart(tuple(soft), tuple(bone), tuple(gas), rng.uniform(230, 300) * size, (brain,))


def abdomen(rng: np.random.Generator) -> BodyPart:
    """Lumbar spine, pelvis, hips, bowel gas."""
    size = rng.uniform(0.7, 1.1)
    trunk = np.array([150, 146, 142, 150, 165, 168]) * rng.uniform(0.9, 1.1)
    soft = [Chain(size * np.linspace([0, -210, 0], [0, 230, 0], 6), size * trunk, depth=rng.uniform(0.6, 0.8))]
    bone = []
    for number in range(7):
        y, half = -180.0 + 38 * number, 21.0 + number
        vertebra = np.array([[-0.55 * half, y, 40], [0.55 * half, y, 40]])
        bone.append(Chain(size * vertebra, size * 15, hollow=0.85, filling=0.4, depth=0.8))
        process = np.array([[-half - 20, y + 3, 55], [half + 20, y + 3, 55]])
        bone.append(Chain(size * process, size * 3.0))
    for side in (-1.0, 1.0):
        for y, long in ((-205.0, 120.0), (-178.0, 100.0)):
            rib = smooth_curve([[side * 25, y, 55], [side * 90, y + 25, 40], [side * long, y + 60, 0]], 20)
            bone.append(Chain(size * rib, size * 5, hollow=0.6, filling=0.3))
        for share in np.linspace(0, 1, 9):
            blade = smooth_curve(
                [
                    [side * 28, 92, 45],
                    [side * (58 + 44 * share), 52 + 8 * share, 20],
                    [side * (75 + 55 * share), 118, 0],
                ],
                16,
            )
            bone.append(Chain(size * blade, size * 7, depth=0.35))
        rim = smooth_curve(
            [[side * 20, 100, 45], [side * 62, 140, 20], [side * 40, 190, -20], [side * 4, 196, -30]], 24
        )
        bone.append(Chain(size * rim, size * 8, hollow=0.6, filling=0.4))
        bone.append(
            Chain(size * np.array([[side * 84, 170, 0], [side * 88, 172, 0]]), size * 23, hollow=0.85, filling=0.5)
        )
        thigh = np.linspace([side * 92, 176, 0], [side * 128, 240, 0], 4)
        bone.append(Chain(size * thigh, size * np.array([15, 17, 18, 16]), hollow=0.6, filling=0.3))
    gas = []
    for _ in range(rng.integers(8, 22)):
        place = np.array([rng.uniform(-110, 110), rng.uniform(-150, 150), rng.uniform(-60, 0)])
        bend = place + np.cumsum(rng.normal(0, 14, (4, 3)) * [1, 1, 0.2], axis=0)
        gas.append(Chain(size * bend, size * rng.uniform(6, 19)))
    return BodyPart(tuple(soft), tuple(bone), tuple(gas), field_mm=rng.uniform(330, 430) * size)


def _line(start: object, end: object) -> NDArray[np.float64]:
    return np.linspace(np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64), 4)
