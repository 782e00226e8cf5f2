"""Random fields with a 1/f spectrum: parenchyma, fat and muscle, frayed edges.

Called by render.py and findings.py. Fields are cut from a few large periodic ones, which are made once per process.
"""

from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

_SIDE = 1024
#: Of a field's own pixels, before zoom.
_GRAIN_MM = 0.5


def texture(
    rng: np.random.Generator, rows: int, columns: int, mm_per_pixel: float, power: float, zoom: float = 1.0
) -> NDArray[np.float32]:
    """A field of zero mean and about unit variance, float32 [rows, columns], with amplitude 1/f**`power`.

    Nothing in it is wider than about 60 mm times `zoom`; a larger zoom makes everything in it larger.
    """
    field = _periodic(round(power, 1), int(rng.integers(3)))
    step = mm_per_pixel / (_GRAIN_MM * zoom)
    angle = rng.uniform(0, 2 * np.pi)
    offset = rng.uniform(0, _SIDE, 2)
    out = np.empty((rows, columns), dtype=np.float32)
    _sample(field, offset[0], offset[1], step * np.cos(angle), step * np.sin(angle), out)
    return out


@lru_cache(maxsize=16)
def _periodic(power: float, number: int) -> NDArray[np.float32]:
    rng = np.random.default_rng([number, round(100 * power), 20260])
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None, :])
    floor = _GRAIN_MM / 60.0
    amplitude = (frequency**2 + floor**2) ** (-power / 2)
    amplitude[0, 0] = 0
    phase = rng.standard_normal((2, *amplitude.shape))
    field = np.fft.irfft2((phase[0] + 1j * phase[1]) * amplitude, s=(_SIDE, _SIDE))
    return np.asarray(field / field.std(), dtype=np.float32)


@numba.njit(cache=True, fastmath=True)
def _sample(field, x0, y0, dx, dy, out):  # type: ignore[no-untyped-def]
    rows, columns = out.shape
    for row in range(rows):
        for column in range(columns):
            # Far into the positive, so that the cut-off integer is the floor.
            x = x0 + dx * column - dy * row + 65536.0
            y = y0 + dy * column + dx * row + 65536.0
            i, j = int(y), int(x)
            v, u = np.float32(y - i), np.float32(x - j)
            i0, j0, i1, j1 = i & 1023, j & 1023, (i + 1) & 1023, (j + 1) & 1023
            top = field[i0, j0] + u * (field[i0, j1] - field[i0, j0])
            low = field[i1, j0] + u * (field[i1, j1] - field[i1, j0])
            out[row, column] = top + v * (low - top)
