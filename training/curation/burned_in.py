"""Takes away what tells the hospital and not the patient: letters and side markers near the borders, and the corners.

Called when curated images are read for training and evaluation, never by the node. Deterministic.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

#: Looked for at this longer side, at which letters are 4 to 40 pixels high.
_SIDE = 512
#: Letters lie within this share of an edge, but not at the top in the middle, where tubes come in.
_BAND = 0.22
_MIDDLE = (0.33, 0.67)
#: Strokes are thinner than this, brighter (or darker) than what surrounds them by at least that, and steep.
_STROKE = 13
_LEAST_STEP = 0.22
_LEAST_STEEPNESS = 0.2
_LETTER_SIDES = (3, 60)
_LEAST_LETTER_PIXELS = 6
#: Around a letter, in pixels of `_SIDE`: its blurred edge, and its neighbours in the same word.
_MARGIN = 4
#: What fills them is smooth, so a small image of it is enough.
_FILLED_SIDE = 192


def without_burned_in(image: NDArray[np.float32], corners: float) -> NDArray[np.float32]:
    """The image without letters and markers near its borders, and without its corners; they are filled smoothly.

    Parameters
    ----------
    image : float32 [rows, columns], 0..1
    corners : sides of the square taken away at each corner, as a share of the shorter side
    """
    removed = burned_in(image) | _corners(image.shape, corners)
    if not removed.any() or removed.all():
        return image
    return np.where(removed, _filled(image, removed), image).astype(np.float32)


def burned_in(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where letters, markers and arrows near the borders are, bool [rows, columns]; faint and large ones are missed."""
    rows, columns = image.shape
    scale = _SIDE / max(rows, columns)
    small = _resized(image, (max(1, round(columns * scale)), max(1, round(rows * scale))))
    steepness = ndimage.morphological_gradient(small, size=3)
    letters = _letters(small, steepness) | _letters(1 - small, steepness)
    if not letters.any():
        return np.zeros(image.shape, bool)
    wide = ndimage.binary_dilation(letters, iterations=_MARGIN)
    return np.asarray(Image.fromarray(wide.astype(np.uint8)).resize((columns, rows), Image.Resampling.NEAREST)) > 0


def _letters(small: NDArray[np.float32], steepness: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Bright strokes of the size of letters."""
    strokes = ndimage.white_tophat(small, size=_STROKE) > _LEAST_STEP
    labels, count = ndimage.label(strokes, structure=np.ones((3, 3)))
    found = np.zeros(small.shape, bool)
    if count == 0:
        return found
    numbers = np.arange(1, count + 1)
    pixels = ndimage.sum(strokes, labels, numbers)
    steep = ndimage.mean(steepness, labels, numbers)
    for index, box in enumerate(ndimage.find_objects(labels)):
        shaped = all(_LETTER_SIDES[0] <= side.stop - side.start <= _LETTER_SIDES[1] for side in box)
        sharp = pixels[index] >= _LEAST_LETTER_PIXELS and steep[index] >= _LEAST_STEEPNESS
        if shaped and sharp and _near_border(box, small.shape):
            found[box] |= labels[box] == index + 1
    return found


def _near_border(box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    y, x = ((side.start + side.stop) / 2 / length for side, length in zip(box, shape, strict=True))
    if y < 0.5 and _MIDDLE[0] < x < _MIDDLE[1]:
        return False
    return bool(min(x, 1 - x, y, 1 - y) <= _BAND)


def _corners(shape: tuple[int, ...], share: float) -> NDArray[np.bool_]:
    inside = np.zeros(shape, bool)
    side = round(share * min(shape))
    if side:
        for rows in (slice(None, side), slice(-side, None)):
            for columns in (slice(None, side), slice(-side, None)):
                inside[rows, columns] = True
    return inside


def _filled(image: NDArray[np.float32], removed: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Every pixel as the mean of what is left around it, from narrow to wide; float32 [rows, columns]."""
    rows, columns = image.shape
    scale = min(1.0, _FILLED_SIDE / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    kept = (~removed).astype(np.float32)
    values, weights = (_resized(each, size) for each in (image * kept, kept))
    filled, todo = np.zeros_like(values), np.ones(values.shape, bool)
    sigma = 1.0
    while todo.any():
        weight = ndimage.gaussian_filter(weights, sigma, truncate=3)
        enough = todo & (weight > 0.05)
        filled[enough] = ndimage.gaussian_filter(values, sigma, truncate=3)[enough] / weight[enough]
        todo &= ~enough
        sigma *= 3
    return _resized(filled, (columns, rows))


def _resized(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """To (columns, rows): averaged when it becomes smaller."""
    smaller = size[0] < image.shape[1]
    return np.asarray(
        Image.fromarray(image).resize(size, Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR)
    )
