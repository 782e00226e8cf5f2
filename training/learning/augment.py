"""Batches for training: examples turned, scaled, windowed and spoilt as films differ; never mirrored (sides matter).

Both looks share the random film: the greys are changed as other VOI windows would have, and then stretched again, so
that the model sees what is left of a window after `Intensity.STRETCH`. Called by training/learning/looks.py.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from schemas.codes import Segment
from schemas.preprocessing import Preprocessing
from training.examples.store import DETAIL_CROP, Examples
from training.examples.targets import COURSES, LANDMARKS, PLACED_FINDINGS, REGIONS
from training.learning.greys import Window, restretched, restretched_crop, spoilt, with_burned_in
from workers.bundle import normalise
from workers.networks.dense import STRIDE

#: Side of a patch token in pixels.
PATCH = 16
#: Width of a landmark's heat map in cells of its dense head; narrower ones were not learned reliably.
HEAT_SIGMA = 1.8
#: A course is drawn at least so wide, in cells: half of it on either side of its centre line.
_LEAST_COURSE_CELLS = 1.75
_CARINA = len(LANDMARKS) - 1
_TURN_DEGREES = 12.0
_SCALE = 0.15
_SHIFT = 0.12
#: Of a crop's side, as far as the first look's carina may be off.
_CROP_JITTER = 0.1


@dataclass(frozen=True)
class FirstBatch:
    """B normalised inputs with targets; S = input size. NaN: unknown, or makes no sense."""

    #: float32 [B, 1, S, S], normalised.
    images: Tensor
    #: float32 [B, TARGETS].
    classes: Tensor
    #: float32 [B, CHANNELS, S / 4, S / 4], 0..1; whole maps are NaN.
    dense: Tensor
    #: float32 [B, PLACED_FINDINGS, S / 16, S / 16], 0..1: the patches that show each; whole maps are NaN.
    findings: Tensor

    def to(self, device: torch.device) -> "FirstBatch":
        return FirstBatch(*(each.to(device) for each in (self.images, self.classes, self.dense, self.findings)))


@dataclass(frozen=True)
class CloserBatch:
    """B normalised crops of C x C pixels with targets."""

    #: float32 [B, 1, C, C], normalised.
    images: Tensor
    #: float32 [B, CLOSER_CHANNELS, C / stride, C / stride], 0..1; whole maps are NaN where unknown.
    dense: Tensor

    def to(self, device: torch.device) -> "CloserBatch":
        return CloserBatch(self.images.to(device), self.dense.to(device))


def first_batch(examples: Examples, preprocessing: Preprocessing, generator: torch.Generator) -> FirstBatch:
    """The examples, each changed at random."""
    size, count = preprocessing.size, len(examples)
    images = torch.from_numpy(examples.images).float()[:, None] / 255
    theta = _random_affine(count, generator)
    seen, film = _turned(images, _film(examples), theta, size)
    seen = with_burned_in(seen, film, generator)
    seen = restretched(spoilt(Window.random(count, generator)(seen), generator), film)
    known = torch.from_numpy(examples.masks_known.astype(np.int32))
    bits = torch.arange(len(REGIONS) + len(PLACED_FINDINGS))
    masks = ((torch.from_numpy(examples.masks.astype(np.int32))[:, None] >> bits[:, None, None]) & 1).float()
    grid = F.affine_grid(theta, [count, 1, size // 2, size // 2], align_corners=False)
    masks = F.grid_sample(masks, grid, align_corners=False)
    masks[((known[:, None] >> bits) & 1) == 0] = math.nan
    regions, findings = masks[:, : len(REGIONS)], masks[:, len(REGIONS) :]

    move = _Affine.of(theta, size)
    courses = move.points(torch.from_numpy(examples.courses).flatten(1, 2)).reshape(examples.courses.shape)
    radii = torch.from_numpy(examples.radii) * move.scale[:, None]
    landmarks = move.points(torch.from_numpy(examples.landmarks))
    dense = torch.cat(
        [
            F.avg_pool2d(regions, STRIDE // 2),
            _known_maps(course_maps(courses, radii, STRIDE, size // STRIDE), torch.from_numpy(examples.courses_known)),
            _known_maps(
                heat_maps(landmarks, STRIDE, size // STRIDE),
                torch.from_numpy(np.column_stack([examples.tips_known, examples.carina_known])),
            ),
        ],
        dim=1,
    )
    return FirstBatch(
        normalise(seen[:, 0], preprocessing),
        torch.from_numpy(examples.classes),
        dense,
        F.max_pool2d(findings, PATCH // 2),
    )


def closer_batch(
    examples: Examples, preprocessing: Preprocessing, crop: int, stride: int, generator: torch.Generator
) -> CloserBatch:
    """Crops where the second look is directed, jittered by up to a tenth of their side, changed like whole films.

    Parameters
    ----------
    crop, stride : of the second look's head
    """
    count = len(examples)
    images = torch.from_numpy(examples.details).float()[:, None] / 255
    to_detail = torch.from_numpy(examples.to_detail)
    scale, offset = to_detail[:, :2], to_detail[:, 2:]
    theta = _crop_affine(count, crop, generator)
    grid = F.affine_grid(theta, [count, 1, crop, crop], align_corners=False)
    # A crop reaches over the edge of what is kept in rare cases only: what lies there goes on.
    seen = F.grid_sample(images, grid, align_corners=False, padding_mode="border")
    window = Window.random(count, generator)
    seen = restretched_crop(spoilt(window(seen), generator), window, generator)
    # From model pixels to those that are kept, then to the crop's.
    move = _Affine.of(theta, DETAIL_CROP, crop)
    tube = COURSES.index(Segment.ENDOTRACHEAL_TUBE)
    points = torch.from_numpy(examples.courses).flatten(1, 2) * scale[:, None] + offset[:, None]
    courses = move.points(points).reshape(examples.courses.shape)
    # In so fine pixels the points of a long line lie so far apart that a thin one would be dots.
    apart = torch.linalg.vector_norm(courses.diff(dim=2), dim=3).median(dim=2).values
    radii = torch.maximum(torch.from_numpy(examples.radii) * scale[:, :1] * move.scale[:, None], 0.6 * apart)
    landmarks = torch.from_numpy(examples.landmarks[:, [tube, _CARINA]])
    ends = move.points(landmarks * scale[:, None] + offset[:, None])
    cells = crop // stride
    known = torch.from_numpy(
        np.column_stack([examples.courses_known, examples.tips_known[:, tube], examples.carina_known])
    )
    dense = torch.cat([course_maps(courses, radii, stride, cells), heat_maps(ends, stride, cells)], dim=1)
    return CloserBatch(normalise(seen[:, 0], preprocessing), _known_maps(dense, known))


def heat_maps(points: Tensor, stride: int, cells: int) -> Tensor:
    """Gaussian maps float32 [B, points, cells, cells] with peak 1 at `points` [B, points, 2] (x, y in input pixels).

    A point that is NaN, or far outside, leaves its map empty.
    """
    centres = torch.arange(cells) + 0.5
    x, y = (points / stride).unbind(dim=-1)
    across = torch.exp(-((centres - x[..., None]) ** 2) / (2 * HEAT_SIGMA**2))
    down = torch.exp(-((centres - y[..., None]) ** 2) / (2 * HEAT_SIGMA**2))
    return torch.nan_to_num(down[..., :, None] * across[..., None, :], nan=0.0)


def course_maps(courses: Tensor, radii: Tensor, stride: int, cells: int) -> Tensor:
    """Which cells a course runs through: float32 [B, courses, cells, cells], 1 or 0.

    Parameters
    ----------
    courses : [B, courses, points, 2] (x, y in input pixels), so dense that they stand for a line; NaN: there is none
    radii : [B, courses], half the width of each in input pixels
    """
    centres = (torch.arange(cells) + 0.5) * stride
    maps = torch.zeros(*courses.shape[:2], cells, cells)
    least = _LEAST_COURSE_CELLS / 2 * stride
    for index in (~courses[:, :, 0, 0].isnan()).nonzero().tolist():
        row, column = index
        points = courses[row, column]
        across = (centres - points[:, :1]) ** 2
        down = (centres - points[:, 1:]) ** 2
        # |p - c|^2 = dx^2 + dy^2, its minimum over the points for each cell.
        nearest = (down[:, :, None] + across[:, None, :]).amin(dim=0)
        reach = max(float(radii[row, column].nan_to_num()), least)
        maps[row, column] = (nearest <= reach**2).float()
    return maps


def _known_maps(maps: Tensor, known: Tensor) -> Tensor:
    """The maps [B, channels, h, w], NaN where they are not `known` [B, channels]."""
    return torch.where(known[:, :, None, None], maps, math.nan)


def _film(examples: Examples) -> Tensor:
    """1 on the film, 0 beside it: float32 [B, 1, S, S]."""
    centres = torch.arange(examples.size)
    left, top, right, bottom = torch.from_numpy(examples.areas.astype(np.int64))[:, :, None].unbind(dim=1)
    across, down = (centres >= left) & (centres < right), (centres >= top) & (centres < bottom)
    return (down[:, :, None] & across[:, None, :])[:, None].float()


def _turned(images: Tensor, film: Tensor, theta: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Images and what of them is film after the change of place."""
    grid = F.affine_grid(theta, [len(images), 1, size, size], align_corners=False)
    moved = F.grid_sample(torch.cat([images, film], dim=1), grid, align_corners=False)
    return moved[:, :1], (moved[:, 1:] > 0.5).float()


@dataclass(frozen=True)
class _Affine:
    """The way of points under a change of place, from an input of `before` pixels to one of `after`."""

    theta: Tensor
    before: int
    after: int

    @classmethod
    def of(cls, theta: Tensor, before: int, after: int | None = None) -> "_Affine":
        return cls(theta, before, after or before)

    @property
    def scale(self) -> Tensor:
        """[B], how much larger things become, in pixels."""
        area: Tensor = torch.linalg.det(self.theta[:, :, :2]).abs()
        return area.rsqrt() * (self.after / self.before)

    def points(self, points: Tensor) -> Tensor:
        """[B, points, 2], x and y in pixels."""
        normalised = points / self.before * 2 - 1
        inverse = torch.linalg.inv(self.theta[:, :, :2])
        moved: Tensor = (normalised - self.theta[:, None, :, 2]) @ inverse.transpose(1, 2)
        return (moved + 1) / 2 * self.after


def _random_affine(count: int, generator: torch.Generator) -> Tensor:
    """Output to input in normalised coordinates, float32 [B, 2, 3]."""
    draw = torch.rand(4, count, generator=generator) * 2 - 1
    return _affine(draw[0], torch.exp(draw[1] * _SCALE), _SHIFT * draw[2], _SHIFT * draw[3])


def _crop_affine(count: int, crop: int, generator: torch.Generator) -> Tensor:
    """The same from a crop to what is kept of the detail image; zoomed less, because most of it is already there."""
    draw = torch.rand(4, count, generator=generator) * 2 - 1
    side = crop / DETAIL_CROP
    shift = 2 * _CROP_JITTER * side
    return _affine(draw[0], side * torch.exp(draw[1] * _SCALE / 2), shift * draw[2], shift * draw[3])


def _affine(turn: Tensor, scale: Tensor, right: Tensor, down: Tensor) -> Tensor:
    angle = turn * math.radians(_TURN_DEGREES)
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    return torch.stack([torch.stack([cos, -sin, right], dim=1), torch.stack([sin, cos, down], dim=1)], dim=1)
