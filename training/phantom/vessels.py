"""The branching vessels of both lungs, grown in 3-D from the hila, and the walls of small bronchi.

Called by render.py. Thousands of short capsules: a dense tree decides how a lung looks.
"""

import math

import numba
import numpy as np

from training.phantom.body import Body, Side
from training.phantom.chains import Chain, PackedChains, pack
from training.phantom.shapes import cavity_depth, diaphragm, lateral_border


def draw_vessels(rng: np.random.Generator, body: Body, calibre: float = 1.0, pruning: float = 0.0) -> PackedChains:
    """The vessels of both lungs; `pruning` 0..1 thins out what is small (emphysema), `calibre` widens all of them."""
    parts = [pack(_hilum(side)) for side in (body.right, body.left)]
    for side in (body.right, body.left):
        parts.append(_tree(rng, side, body.scale, calibre, pruning, body.supine))
    offsets = np.cumsum([0] + [len(part.points) for part in parts[:-1]])
    return PackedChains(
        points=np.concatenate([part.points for part in parts]),
        radii=np.concatenate([part.radii for part in parts]),
        ends=np.concatenate([part.ends + offset for part, offset in zip(parts, offsets, strict=True)]),
        hollow=np.concatenate([part.hollow for part in parts]),
        filling=np.concatenate([part.filling for part in parts]),
        depth=np.concatenate([part.depth for part in parts]),
    )


def _hilum(side: Side) -> list[Chain]:
    """The pulmonary artery from the hilum downwards."""
    course = side.pulmonary_artery[-16:]
    radius = np.linspace(7.2, 4.6, len(course)) * side.lung.width / 139
    return [Chain(course, radius)]


def _tree(
    rng: np.random.Generator, side: Side, length: float, calibre: float, pruning: float, supine: bool
) -> PackedChains:
    trunks = 15
    sign = side.sign
    # Directions fan out from the hilum: upwards, outwards, downwards; forwards and backwards.
    elevation = np.radians(np.linspace(-78, 88, trunks) + rng.normal(0, 7, trunks))
    depth = rng.uniform(-0.75, 0.75, trunks)
    flat = np.sqrt(1 - depth * depth)
    directions = np.stack([sign * np.cos(elevation) * flat, np.sin(elevation) * flat, depth], axis=1)
    starts = side.hilum + rng.normal(0, 1, (trunks, 3)) * np.array([5, 9, 6]) * length
    # Erect, blood flows to the bases.
    weight = 1.0 if supine else 0.82 + 0.36 * (np.sin(elevation) + 1) / 2
    radii = rng.uniform(2.2, 3.7, trunks) * weight * calibre * length**0.9
    seed = int(rng.integers(2**31))
    points, sizes, count = _grow(
        seed, starts, directions, radii, side.lung, length, 0.28 * length**0.5 + 0.5 * pruning, 6000
    )
    points, sizes = points[: 3 * count], sizes[: 3 * count]
    chains = np.zeros(count, dtype=np.float32)
    return PackedChains(points, sizes, 3 * np.arange(1, count + 1), chains, chains, chains + 1)


@numba.njit(cache=True)
def _grow(seed, starts, directions, radii, lung, length, least, most):  # type: ignore[no-untyped-def]
    """Breadth first: each piece is a chain of three points; (points, radii, number of pieces)."""
    np.random.seed(seed)
    points = np.zeros((3 * most, 3), dtype=np.float64)
    sizes = np.zeros(3 * most, dtype=np.float32)
    queue = np.zeros((2 * most + 64, 7), dtype=np.float64)
    waiting = len(starts)
    for i in range(waiting):
        queue[i, 0:3], queue[i, 3:6], queue[i, 6] = starts[i], directions[i], radii[i]
    count, position = 0, 0
    while position < waiting and count < most:
        item = queue[position]
        position += 1
        x, y, z, radius = item[0], item[1], item[2], item[6]
        dx, dy, dz = item[3], item[4], item[5]
        reach = (5.0 + 7.5 * radius) * (0.65 + 0.7 * np.random.random())
        if radius > 1.6:
            reach *= 1.25
        # A gentle bend on the way.
        wander = 0.16
        mx = x + 0.5 * reach * dx + wander * reach * 0.5 * np.random.normal()
        my = y + 0.5 * reach * dy + wander * reach * 0.5 * np.random.normal()
        mz = z + 0.5 * reach * dz + wander * reach * 0.5 * np.random.normal()
        ex, ey, ez = x + reach * dx, y + reach * dy, z + reach * dz
        away = lung.sign * ex
        wall = lateral_border(lung, min(ey, lung.dome + lung.drop))
        deep = cavity_depth(lung, max(away, 22.0 * length), ey)
        if away > wall - 4.0 or ey > diaphragm(lung, max(0.0, away)) + 0.6 * lung.drop or ey < lung.apex + 5.0 * length:
            continue
        if away > 22.0 * length and abs(ez - lung.centre_z) > deep:
            continue
        base = 3 * count
        points[base, 0], points[base, 1], points[base, 2] = x, y, z
        points[base + 1, 0], points[base + 1, 1], points[base + 1, 2] = mx, my, mz
        points[base + 2, 0], points[base + 2, 1], points[base + 2, 2] = ex, ey, ez
        sizes[base], sizes[base + 1], sizes[base + 2] = radius, 0.95 * radius, 0.88 * radius
        count += 1
        # The way that the piece ends in.
        tx, ty, tz = ex - mx, ey - my, ez - mz
        norm = math.sqrt(tx * tx + ty * ty + tz * tz) + 1e-9
        tx, ty, tz = tx / norm, ty / norm, tz / norm
        share = 0.5 + 0.32 * np.random.random()
        for child in range(2):
            part = share if child == 0 else 1.0 - share
            size = radius * 0.97 * part ** (1.0 / 2.7)
            if size < least or waiting >= len(queue):
                continue
            spread = (0.20 + 0.5 * (1.0 - part)) * (0.7 + 0.6 * np.random.random())
            # A direction at a right angle to the vessel; the second child takes the other side.
            if child == 0:
                rx, ry, rz = np.random.normal(), np.random.normal(), np.random.normal()
                along = rx * tx + ry * ty + rz * tz
                rx, ry, rz = rx - along * tx, ry - along * ty, rz - along * tz
                norm = math.sqrt(rx * rx + ry * ry + rz * rz) + 1e-9
                rx, ry, rz = rx / norm, ry / norm, rz / norm
            side = 1.0 if child == 0 else -1.0
            nx, ny, nz = tx + side * spread * rx, ty + side * spread * ry, tz + side * spread * rz
            norm = math.sqrt(nx * nx + ny * ny + nz * nz)
            queue[waiting, 0], queue[waiting, 1], queue[waiting, 2] = ex, ey, ez
            queue[waiting, 3], queue[waiting, 4], queue[waiting, 5] = nx / norm, ny / norm, nz / norm
            queue[waiting, 6] = size
            waiting += 1
    return points, sizes, count
