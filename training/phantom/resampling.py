"""Wide blurs and enlargement on coarse grids, where scipy's general functions take too long.

Called by appearance.py and render.py.
"""

import numba
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def enlarge(field: Field, step: int, rows: int, columns: int) -> Field:
    """A field on pixels `step` times as wide, bilinearly on the fine ones, float32 [rows, columns]."""
    if step == 1:
        return field[:rows, :columns]
    out = np.empty((rows, columns), dtype=np.float32)
    _enlarge(np.ascontiguousarray(field), step, out)
    return out


def reduce(field: Field, step: int) -> Field:
    """Means of blocks of `step` x `step`, what is left over at the right and lower end included by repetition."""
    if step == 1:
        return field
    rows, columns = field.shape
    down, right = -rows % step, -columns % step
    if down or right:
        field = np.pad(field, ((0, down), (0, right)), mode="edge")
    out = np.empty((field.shape[0] // step, field.shape[1] // step), dtype=np.float32)
    _reduce(np.ascontiguousarray(field), step, out)
    return out


def blur(field: Field, sigma: float) -> Field:
    """A Gaussian of `sigma` pixels, edges repeated; a wide one is computed on fewer pixels."""
    step = 1
    while sigma / step > 2:
        step *= 2
    small = np.ascontiguousarray(reduce(field, step))
    sigma /= step
    reach = max(1, int(2.8 * sigma + 0.5))
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    weights /= weights[0] + 2 * weights[1:].sum()
    out = np.empty_like(small)
    _smooth(small, weights.astype(np.float32), out)
    return enlarge(out, step, *field.shape)


@numba.njit(cache=True, fastmath=True)
def _smooth(field, weights, out):  # type: ignore[no-untyped-def]
    rows, columns = field.shape
    reach = len(weights) - 1
    line = np.empty(columns + 2 * reach, dtype=np.float32)
    for row in range(rows):
        for column in range(columns):
            line[reach + column] = weights[0] * field[row, column]
        for k in range(1, reach + 1):
            above, below = max(0, row - k), min(rows - 1, row + k)
            weight = weights[k]
            for column in range(columns):
                line[reach + column] += weight * (field[above, column] + field[below, column])
        for k in range(reach):
            line[k] = line[reach]
            line[reach + columns + k] = line[reach + columns - 1]
        for column in range(columns):
            out[row, column] = weights[0] * line[reach + column]
        for k in range(1, reach + 1):
            weight = weights[k]
            for column in range(columns):
                out[row, column] += weight * (line[reach + column - k] + line[reach + column + k])


@numba.njit(cache=True, fastmath=True)
def _enlarge(field, step, out):  # type: ignore[no-untyped-def]
    rows, columns = out.shape
    height, width = field.shape
    left = np.empty(columns, dtype=np.int32)
    right = np.empty(columns, dtype=np.int32)
    share = np.empty(columns, dtype=np.float32)
    for column in range(columns):
        x = min(max((column + 0.5) / step - 0.5, 0.0), width - 1.0)
        left[column] = int(x)
        right[column] = min(int(x) + 1, width - 1)
        share[column] = x - int(x)
    line = np.empty(width, dtype=np.float32)
    for row in range(rows):
        y = min(max((row + 0.5) / step - 0.5, 0.0), height - 1.0)
        i = int(y)
        below = min(i + 1, height - 1)
        v = np.float32(y - i)
        for column in range(width):
            line[column] = field[i, column] + v * (field[below, column] - field[i, column])
        for column in range(columns):
            low = line[left[column]]
            out[row, column] = low + share[column] * (line[right[column]] - low)


@numba.njit(cache=True, fastmath=True)
def _reduce(field, step, out):  # type: ignore[no-untyped-def]
    rows, columns = out.shape
    share = np.float32(1.0 / (step * step))
    for row in range(rows):
        for column in range(columns):
            total = np.float32(0.0)
            for i in range(step):
                for j in range(step):
                    total += field[row * step + i, column * step + j]
            out[row, column] = total * share
