"""Batches for training: pool images shifted, turned and windowed as films differ; never mirrored (sides matter)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from schemas.preprocessing import Preprocessing
from training.plain.phantom.truth import LOCALISED_FINDINGS, SEGMENTS
from training.plain.pool import Pool
from training.plain.targets import CHANNELS
from workers.bundle import normalise
from workers.networks.dense import STRIDE

#: Side of a patch token in pixels.
PATCH = 16
#: Width of a landmark's heat map in cells of the dense head (about 8 mm); narrower ones were not learned reliably.
HEAT_SIGMA = 1.8
_SEGMENTS = len(SEGMENTS)
_MASKS = _SEGMENTS + len(LOCALISED_FINDINGS)


@dataclass(frozen=True)
class Batch:
    """B normalised inputs with targets; S = input size."""

    #: float32 [B, 1, S, S], normalised.
    images: Tensor
    #: float32 [B, classes], NaN where not applicable.
    classes: Tensor
    #: float32 [B, channels, S / 4, S / 4], 0..1, in the order of `training.plain.targets.CHANNELS`.
    dense: Tensor
    #: float32 [B, 4, S / 16, S / 16], 0..1: the patches that show each of `LOCALISED_FINDINGS`.
    findings: Tensor


def augmented_batch(
    pool: Pool, indices: NDArray[np.intp], preprocessing: Preprocessing, generator: torch.Generator
) -> Batch:
    """The phantoms `indices` of the pool, each changed at random."""
    size = preprocessing.size
    images = torch.from_numpy(pool.images[indices]).float()[:, None] / 255
    bits = torch.from_numpy(pool.masks[indices])[:, None]
    masks = ((bits >> torch.arange(_MASKS, dtype=torch.uint8)[:, None, None]) & 1).float()
    theta = _random_affine(len(indices), generator)
    grid = F.affine_grid(theta, [len(indices), 1, size, size], align_corners=False)
    moved = F.grid_sample(torch.cat([images, masks], dim=1), grid, align_corners=False)
    seen = _random_exposure(moved[:, :1], generator)
    segments, findings = moved[:, 1 : 1 + _SEGMENTS], moved[:, 1 + _SEGMENTS :]
    regions = F.avg_pool2d(segments[:, :-1], STRIDE)
    # A course is thinner than a cell: any part of it makes the cell its own.
    course = (F.max_pool2d(segments[:, -1:], STRIDE) > 0.5).float()
    landmarks = _moved_points(torch.from_numpy(pool.landmarks[indices]), theta, size)
    dense = torch.cat([regions, course, heat_maps(landmarks, size // STRIDE)], dim=1)
    if dense.shape[1] != len(CHANNELS):
        raise AssertionError(f"{dense.shape[1]} dense targets for {len(CHANNELS)} channels")
    normalised = normalise(seen[:, 0], preprocessing)
    return Batch(normalised, torch.from_numpy(pool.classes[indices]), dense, F.max_pool2d(findings, PATCH))


def heat_maps(landmarks: Tensor, cells: int) -> Tensor:
    """Gaussian maps float32 [B, points, cells, cells] with peak 1 at `landmarks` [B, points, 2] (x, y in model pixels).

    A point that is NaN, or far outside, leaves its map empty.
    """
    centres = torch.arange(cells) + 0.5
    x, y = (landmarks / STRIDE).unbind(dim=-1)
    across = torch.exp(-((centres - x[..., None]) ** 2) / (2 * HEAT_SIGMA**2))
    down = torch.exp(-((centres - y[..., None]) ** 2) / (2 * HEAT_SIGMA**2))
    return torch.nan_to_num(down[..., :, None] * across[..., None, :], nan=0.0)


def _random_affine(count: int, generator: torch.Generator) -> Tensor:
    """Output to input in normalised coordinates, float32 [B, 2, 3]: +-6 degrees, 0.87 to 1.15 of the size, +-6 %."""
    draw = torch.rand(4, count, generator=generator) * 2 - 1
    angle = draw[0] * math.radians(6)
    scale = torch.exp(draw[1] * 0.14)
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    rows = [torch.stack([cos, -sin, draw[2] * 0.12], dim=1), torch.stack([sin, cos, draw[3] * 0.12], dim=1)]
    return torch.stack(rows, dim=1)


def _moved_points(points: Tensor, theta: Tensor, size: int) -> Tensor:
    normalised = points / size * 2 - 1
    inverse = torch.linalg.inv(theta[:, :, :2])
    moved: Tensor = (normalised - theta[:, None, :, 2]) @ inverse.transpose(1, 2)
    return (moved + 1) / 2 * size


def _random_exposure(images: Tensor, generator: torch.Generator) -> Tensor:
    """Other display windows, curves, sharpness and noise, still in 0..1; where there is no film stays black."""
    count = len(images)
    film = images > 0
    draw = torch.rand(7, count, 1, 1, 1, generator=generator) * 2 - 1
    changed = images ** torch.exp(0.45 * draw[0])
    changed = (changed - 0.5) * torch.exp(0.35 * draw[1]) + 0.5 + 0.12 * draw[2]
    # From slightly blurred to edge-enhanced.
    blurred = F.avg_pool2d(changed, 3, stride=1, padding=1)
    changed = changed + (0.8 * draw[3]) * (changed - blurred)
    ramp = torch.linspace(-1, 1, images.shape[-1])
    changed = changed + 0.08 * draw[4] * ramp + 0.08 * draw[5] * ramp[:, None]
    noise = torch.randn(images.shape, generator=generator)
    changed = changed + 0.025 * draw[6].abs() * noise
    return changed.clamp(0, 1) * film
