"""Capsule chains: ribs, vessels, airways and devices as 3-D polylines with a radius, projected to path lengths.

Called by whoever draws something long and round; the projection diverges, so each point is as wide as it is magnified.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from training.phantom.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Chain:
    """A bent cylinder with round ends."""

    #: float [points, 3], patient mm.
    points: NDArray[np.floating]
    #: mm; one for all points, or float [points].
    radius: float | NDArray[np.floating]
    #: Inner radius as a share of the outer one; what lies inside counts nothing.
    hollow: float = 0.0
    #: What counts of the part inside: marrow within a cortex.
    filling: float = 0.0
    #: Depth of the cross-section along the ray as a share of its width: a rib is flat.
    depth: float = 1.0


@dataclass(frozen=True, eq=False)
class PackedChains:
    """Many chains in flat arrays, for what is drawn by the hundred."""

    #: float64 [points, 3], patient mm, one chain after the other.
    points: NDArray[np.float64]
    #: float32 [points], mm.
    radii: NDArray[np.float32]
    #: int64 [chains]: where each chain ends.
    ends: NDArray[np.int64]
    #: float32 [chains].
    hollow: NDArray[np.float32]
    filling: NDArray[np.float32]
    depth: NDArray[np.float32]


def pack(chains: Sequence[Chain]) -> PackedChains:
    """Chains in flat arrays; at least one is needed."""
    return PackedChains(
        points=np.concatenate([chain.points for chain in chains]).astype(np.float64),
        radii=np.concatenate([_radii(chain) for chain in chains]).astype(np.float32),
        ends=np.cumsum([len(chain.points) for chain in chains]),
        hollow=np.array([chain.hollow for chain in chains], dtype=np.float32),
        filling=np.array([chain.filling for chain in chains], dtype=np.float32),
        depth=np.array([chain.depth for chain in chains], dtype=np.float32),
    )


def project_chains(chains: Sequence[Chain] | PackedChains, geometry: Geometry) -> NDArray[np.float32]:
    """Sum of the chains' path lengths in mm, float32 [rows, columns]; within one chain the longest path counts.

    What runs along the ray is crossed for longer: a path grows with the chain's obliqueness, up to threefold.
    """
    layer = np.zeros((geometry.rows, geometry.columns), dtype=np.float32)
    if isinstance(chains, PackedChains):
        packed = chains
    elif chains:
        packed = pack(chains)
    else:
        return layer
    pixels, magnification = geometry.project(packed.points)
    scale = magnification / np.float32(geometry.imager_mm_per_pixel)
    _draw(
        pixels, packed.radii * scale, scale, packed.points, packed.ends, packed.hollow, packed.filling,
        packed.depth,
        layer, np.zeros_like(layer), np.zeros_like(layer),
    )  # fmt: skip
    return layer


def smooth_curve(
    knots: Sequence[Sequence[float] | NDArray[np.floating]] | NDArray[np.floating], count: int = 24
) -> NDArray[np.float64]:
    """A Catmull-Rom curve through the knots [knots, n], float64 [count, n]."""
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


def arc_lengths(course: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distance along a course [points, n] from its first point, float64 [points]."""
    steps = np.linalg.norm(np.diff(np.asarray(course, dtype=np.float64), axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def resample(course: NDArray[np.floating], step_mm: float) -> NDArray[np.float64]:
    """The course [points, n] with points about every `step_mm`, both ends kept."""
    along = arc_lengths(course)
    count = max(2, math.ceil(along[-1] / step_mm) + 1)
    wanted = np.linspace(0, along[-1], count)
    return np.stack([np.interp(wanted, along, axis) for axis in np.asarray(course, dtype=np.float64).T], axis=1)


def _radii(chain: Chain) -> NDArray[np.floating]:
    return chain.radius if isinstance(chain.radius, np.ndarray) else np.full(len(chain.points), chain.radius)


@numba.njit(cache=True, fastmath=True)
def _draw(pixels, radii, scale, points, ends, hollow, filling, depth, layer, outer, inner):  # type: ignore[no-untyped-def]
    rows, columns = layer.shape
    start = 0
    for chain in range(len(ends)):
        end = ends[chain]
        row_low, row_high, column_low, column_high = rows, 0, columns, 0
        for i in range(start, end - 1):
            ax, ay, bx, by = pixels[i, 0], pixels[i, 1], pixels[i + 1, 0], pixels[i + 1, 1]
            reach = max(max(radii[i], radii[i + 1]), np.float32(0.75)) + np.float32(0.5)
            r0, r1 = max(0, int(min(ay, by) - reach)), min(rows, int(max(ay, by) + reach) + 1)
            c0, c1 = max(0, int(min(ax, bx) - reach)), min(columns, int(max(ax, bx) + reach) + 1)
            if r0 >= r1 or c0 >= c1:
                continue
            row_low, row_high = min(row_low, r0), max(row_high, r1)
            column_low, column_high = min(column_low, c0), max(column_high, c1)
            dx, dy = bx - ax, by - ay
            square = dx * dx + dy * dy + np.float32(1e-6)
            # How much longer the piece is than its shadow.
            length = math.sqrt(
                (points[i + 1, 0] - points[i, 0]) ** 2
                + (points[i + 1, 1] - points[i, 1]) ** 2
                + (points[i + 1, 2] - points[i, 2]) ** 2
            )
            stretch = np.float32(min(3.0, max(1.0, length * scale[i] / math.sqrt(square))))
            for row in range(r0, r1):
                for column in range(c0, c1):
                    px, py = np.float32(column + 0.5) - ax, np.float32(row + 0.5) - ay
                    t = (px * dx + py * dy) / square
                    inside = stretch
                    if t < 0:
                        t = np.float32(0.0)
                        if i == start:
                            inside = np.float32(1.0)
                    elif t > 1:
                        t = np.float32(1.0)
                        if i == end - 2:
                            inside = np.float32(1.0)
                    qx, qy = px - t * dx, py - t * dy
                    away = qx * qx + qy * qy
                    radius = radii[i] + t * (radii[i + 1] - radii[i])
                    # Thinner than the pixel grid: widen and thin out, so that the shadow keeps its area.
                    drawn = max(radius, np.float32(0.75))
                    if away >= drawn * drawn:
                        continue
                    share = np.float32(2.0) * (radius / drawn) ** 2 * inside / scale[i] * depth[chain]
                    path = math.sqrt(drawn * drawn - away) * share
                    outer[row, column] = max(outer[row, column], path)
                    bore = drawn * hollow[chain]
                    if away < bore * bore:
                        # What is hollow is one bore too: a piece's round end must not close its neighbour's.
                        path = math.sqrt(bore * bore - away) * share
                        inner[row, column] = max(inner[row, column], path)
        for row in range(row_low, row_high):
            for column in range(column_low, column_high):
                layer[row, column] += outer[row, column]
                outer[row, column] = 0.0
        if hollow[chain] > 0:
            empty = np.float32(1.0) - filling[chain]
            for row in range(row_low, row_high):
                for column in range(column_low, column_high):
                    layer[row, column] -= empty * inner[row, column]
                    inner[row, column] = 0.0
        start = end
