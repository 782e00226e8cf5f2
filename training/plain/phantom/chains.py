"""Capsule chains: ribs, vessels, airways and devices as polylines with a radius, projected to path lengths."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from training.plain.phantom.pose import Pose


@dataclass(frozen=True)
class Chain:
    """A bent cylinder."""

    #: float [points, 2], thorax mm.
    points: NDArray[np.floating]
    #: mm; one for all points, or float [points].
    radius: float | NDArray[np.floating]
    #: Inner radius as a share of the outer one; what lies inside counts nothing.
    hollow: float = 0.0


def project_chains(chains: Sequence[Chain], pose: Pose, rows: int, columns: int) -> NDArray[np.float32]:
    """Sum of the chains' path lengths, float32 [rows, columns] in mm; within one chain the longest path counts."""
    layer = np.zeros((rows, columns), dtype=np.float32)
    if chains:
        points = np.concatenate([pose.to_pixels(chain.points) for chain in chains])
        radii = np.concatenate([np.broadcast_to(chain.radius, len(chain.points)) for chain in chains])
        ends = np.cumsum([len(chain.points) for chain in chains])
        hollow = np.array([chain.hollow for chain in chains], dtype=np.float32)
        _draw(points, (radii / pose.mm_per_pixel).astype(np.float32), ends, hollow, layer, np.zeros_like(layer))
        layer *= pose.mm_per_pixel
    return layer


def smooth_curve(knots: Sequence[tuple[float, float]], count: int = 24) -> NDArray[np.float64]:
    """A Catmull-Rom curve through the knots, float64 [count, 2]."""
    given = np.asarray(knots, dtype=np.float64)
    padded = np.concatenate([2 * given[:1] - given[1:2], given, 2 * given[-1:] - given[-2:-1]])
    position = np.linspace(0, len(given) - 1, count)
    index = np.minimum(position.astype(int), len(given) - 2)
    t = (position - index)[:, None]
    a, b, c, d = (padded[index + offset] for offset in range(4))
    curve: NDArray[np.float64] = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    return curve


@numba.njit(cache=True, fastmath=True)
def _draw(points, radii, ends, hollow, layer, scratch):  # type: ignore[no-untyped-def]
    rows, columns = layer.shape
    start = 0
    for chain in range(len(ends)):
        end = ends[chain]
        row_low, row_high, column_low, column_high = rows, 0, columns, 0
        for i in range(start, end - 1):
            ax, ay, bx, by = points[i, 0], points[i, 1], points[i + 1, 0], points[i + 1, 1]
            reach = max(radii[i], radii[i + 1]) + 1.5
            r0, r1 = max(0, int(min(ay, by) - reach)), min(rows, int(max(ay, by) + reach) + 1)
            c0, c1 = max(0, int(min(ax, bx) - reach)), min(columns, int(max(ax, bx) + reach) + 1)
            row_low, row_high = min(row_low, r0), max(row_high, r1)
            column_low, column_high = min(column_low, c0), max(column_high, c1)
            dx, dy = bx - ax, by - ay
            length = dx * dx + dy * dy + 1e-9
            for row in range(r0, r1):
                for column in range(c0, c1):
                    px, py = column + 0.5 - ax, row + 0.5 - ay
                    t = min(1.0, max(0.0, (px * dx + py * dy) / length))
                    away = math.hypot(px - t * dx, py - t * dy)
                    radius = radii[i] + t * (radii[i + 1] - radii[i])
                    # Thinner than the pixel grid: widen and thin out, so that the shadow keeps its area.
                    drawn = max(radius, 0.75)
                    if away >= drawn:
                        continue
                    path = math.sqrt(drawn * drawn - away * away)
                    inner = drawn * hollow[chain]
                    if away < inner:
                        path -= math.sqrt(inner * inner - away * away)
                    path *= 2.0 * (radius / drawn) ** 2
                    scratch[row, column] = max(scratch[row, column], path)
        for row in range(row_low, row_high):
            for column in range(column_low, column_high):
                layer[row, column] += scratch[row, column]
                scratch[row, column] = 0.0
        start = end
