"""How well a line stands out in the finished image: what the terciles of the frozen tests are made of.

Called by devices for each device that it places.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, uniform_filter1d

#: The profile across the line is averaged over so many points along it, as an eye does; one point for each pixel, but
#: no more than this altogether.
_ALONG = 16
_MOST_POINTS = 200
#: Across: samples per pixel.
_PER_PIXEL = 2
#: What is compared lies so far apart: the width of a stripe or a catheter, but at least some pixels.
_APART_MM = 1.8
_APART_PIXELS = 2.5
#: Median absolute deviation to standard deviation of a normal distribution.
_MAD = 1.4826


def contrast_to_noise(
    image: NDArray[np.float32], course: NDArray[np.float32], radius_mm: float, pixels_per_mm: float
) -> float:
    """Contrast of a line over the noise beside it, median along its course; 0.0 where less than two points are given.

    `course` is float32 [points, 2] as in SCOORD, on the image; `radius_mm` half the line's width. Profiles across the
    line are averaged along it. Contrast is the largest difference within the line between a place and the mean of both
    its neighbours about a stripe's width away, so that airway, spine and vessels beneath count little. Noise is the
    robust standard deviation of the same difference of single pixels beside the line, so fine anatomy counts there.
    """
    if len(course) < 2:
        return 0.0
    points = _evenly(course.astype(np.float64))
    along = np.gradient(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    apart = round(max(_APART_PIXELS, _APART_MM * pixels_per_mm) * _PER_PIXEL)
    core = math.ceil(max(1.0, radius_mm * pixels_per_mm) * _PER_PIXEL)
    reach = core + 3 * apart
    offsets = np.arange(-reach, reach + 1) / _PER_PIXEL
    places = points[:, None, :] + offsets[None, :, None] * normal[:, None, :]
    # Pixel centres lie at halves in SCOORD and at whole numbers in arrays.
    profiles = map_coordinates(image, [places[..., 1] - 0.5, places[..., 0] - 0.5], order=1, mode="nearest")
    # From here on the offsets go from -(reach - apart) to reach - apart.
    single = profiles[:, apart:-apart] - (profiles[:, : -2 * apart] + profiles[:, 2 * apart :]) / 2
    averaged = uniform_filter1d(single, min(_ALONG, len(points)), axis=0, mode="nearest")
    middle = reach - apart
    contrast = np.abs(averaged[:, middle - core : middle + core + 1]).max(axis=1)
    beside = np.concatenate([single[:, :apart], single[:, -apart:]], axis=1)
    ratios = [
        held.mean() / max(_MAD * float(np.median(np.abs(noise))), 1e-4)
        for held, noise in zip(_windows(contrast), _windows(beside), strict=True)
    ]
    return float(np.median(ratios))


def _evenly(course: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every pixel of the course, or fewer of a long one."""
    steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(course, axis=0), axis=1))])
    wanted = np.linspace(0, steps[-1], min(_MOST_POINTS, max(2, math.ceil(steps[-1]))))
    return np.stack([np.interp(wanted, steps, axis) for axis in course.T], axis=1)


def _windows(values: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    return np.array_split(values, max(1, len(values) // _ALONG))
