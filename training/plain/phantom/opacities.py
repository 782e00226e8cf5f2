"""Findings inside the lung: consolidation and nodules."""

import numpy as np
from numpy.typing import NDArray

from training.plain.phantom.anatomy import Anatomy
from training.plain.phantom.chains import Chain
from training.plain.phantom.pose import Pose
from training.plain.phantom.thorax import diaphragm, lateral_border, medial_border


def draw_consolidation(
    rng: np.random.Generator, anatomy: Anatomy, pose: Pose, field: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Share of air replaced by exudate, float32 [rows, columns] in 0..1; `field`, unit noise, frays its edges."""
    rows, columns = field.shape
    opacity = np.zeros_like(field)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) + np.float32(0.5)
    for _ in range(rng.integers(1, 4)):
        centre = pose.to_pixels(_point_in_lung(rng, anatomy, 0.12, 0.8))
        radii = rng.uniform(18, 46, 2) / pose.mm_per_pixel
        square = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2
        blob = rng.uniform(0.8, 1.5) * np.exp(-square) + 0.22 * field * np.exp(-0.5 * square) - 0.18
        opacity = np.maximum(opacity, np.clip(blob, 0, 0.8))
    return opacity.astype(np.float32)


def draw_nodules(rng: np.random.Generator, anatomy: Anatomy) -> list[Chain]:
    """One or two nodules of 10 to 30 mm, slightly out of round."""
    nodules = []
    for _ in range(rng.integers(1, 3)):
        centre = _point_in_lung(rng, anatomy, 0.25, 0.85)
        radius = rng.uniform(5, 15)
        nodules.append(Chain(np.stack([centre, centre + rng.normal(0, 0.25 * radius, 2)]), radius))
    return nodules


def _point_in_lung(rng: np.random.Generator, anatomy: Anatomy, inner: float, outer: float) -> NDArray[np.float64]:
    """A point float64 [2] in thorax mm, `inner`..`outer` of the way from the mediastinum to the chest wall."""
    sign, lung = ((-1.0, anatomy.right), (1.0, anatomy.left))[rng.integers(2)]
    y = lung.apex + rng.uniform(0.16, 0.9) * (lung.dome - lung.apex)
    medial, lateral = medial_border(lung, y), lateral_border(lung, y)
    distance = medial + rng.uniform(inner, outer) * (lateral - medial)
    return np.array([sign * distance, min(y, diaphragm(lung, distance) - 14)])
