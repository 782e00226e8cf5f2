"""Trachea and main bronchi (air), and the pulmonary vessels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.plain.phantom.anatomy import Anatomy
from training.plain.phantom.chains import Chain, smooth_curve


@dataclass(frozen=True)
class Airways:
    """Centre lines, float64 [points, 2] in thorax mm, each from cranial to caudal; the bronchi start at the carina."""

    trachea: NDArray[np.float64]
    right_bronchus: NDArray[np.float64]
    left_bronchus: NDArray[np.float64]
    #: mm.
    trachea_radius: float

    def chains(self) -> list[Chain]:
        bronchi = [
            Chain(line, np.linspace(0.78, 0.5, len(line)) * self.trachea_radius)
            for line in (self.right_bronchus, self.left_bronchus)
        ]
        return [Chain(self.trachea, self.trachea_radius), *bronchi]


def draw_airways(rng: np.random.Generator) -> Airways:
    """The trachea runs down the midline, pushed to the right by the aortic arch."""
    shift, top = rng.normal(-3, 3), rng.normal(0, 4)
    trachea = smooth_curve([(top, -260), (top, -150), (0.4 * top + shift, -80), (shift, -30), (0, 0)], 60)
    right = rng.uniform(0.45, 0.7)
    left = rng.uniform(0.9, 1.2)
    right_bronchus = smooth_curve([(0, 0), (-22 * right, 22), (-52 * right, 60)], 24)
    left_bronchus = smooth_curve([(0, 0), (22 * left, 20), (50 * left, 46)], 24)
    return Airways(trachea, right_bronchus, left_bronchus, rng.uniform(8.0, 11.0))


def draw_vessels(rng: np.random.Generator, anatomy: Anatomy) -> list[Chain]:
    """Branching vessels from both hila; what leaves the lung is cut off by whoever draws them."""
    chains: list[Chain] = []
    calibre = rng.uniform(0.85, 1.25)
    for sign, lung in ((-1.0, anatomy.right), (1.0, anatomy.left)):
        hilum = np.array([sign * (lung.medial + 18), 12.0 - 8 * (sign > 0)])
        angles = np.concatenate([np.linspace(-1.35, 1.45, 9), np.linspace(0.5, 1.3, 3)]) + rng.normal(0, 0.12, 12)
        starts = hilum + rng.normal(0, 7, (12, 2))
        radii = rng.uniform(3.0, 6.0, 12) * calibre
        lengths = rng.uniform(22, 40, 12)
        for _ in range(5):
            directions = np.stack([sign * np.cos(angles), np.sin(angles)], axis=1)
            middles = starts + directions * (0.5 * lengths)[:, None] + rng.normal(0, 1.6, starts.shape)
            ends = starts + directions * lengths[:, None]
            ends[:, 1] += 0.08 * lengths
            for start, middle, end, radius in zip(starts, middles, ends, radii, strict=True):
                chains.append(Chain(np.stack([start, middle, end]), np.array([radius, 0.9 * radius, 0.76 * radius])))
            count = 2 * len(starts)
            spread = rng.uniform(0.15, 0.55, count) * np.tile([-1, 1], len(starts))
            angles = np.repeat(angles, 2) + spread
            starts = np.repeat(ends, 2, axis=0)
            radii = np.repeat(radii, 2) * rng.uniform(0.6, 0.85, count)
            lengths = np.repeat(lengths, 2) * rng.uniform(0.6, 1.0, count)
    return chains
