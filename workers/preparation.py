"""From a stored DICOM file to the network's input. Runs in the process pool."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UnsupportedImageError
from schemas.preprocessing import Preprocessing
from workers.letterbox import Letterbox
from workers.pixels import read_pixels


def prepare(path: Path, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Read, letterbox and normalise the image: float32 [1, size, size].

    Raises PixelDataError, or UnsupportedImageError for a picture of nothing.
    """
    pixels = read_pixels(path)
    if float(np.ptp(pixels)) == 0.0:
        raise UnsupportedImageError("Every pixel has the same value: nothing was exposed, or the export failed.")
    return normalise(pixels, preprocessing)


def normalise(pixels: NDArray[np.float32], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """The network's input for an image as `workers.pixels.read_pixels` gives it (float32 [rows, columns], 0..1)."""
    rows, columns = pixels.shape
    boxed = Letterbox(rows, columns, preprocessing.size).apply(pixels)
    mean, std = (np.array(each, np.float32)[:, None, None] for each in (preprocessing.mean, preprocessing.std))
    normalised: NDArray[np.float32] = (boxed - mean) / std
    return normalised
