"""Reads an image file of a data source as a radiograph, 16-bit safe. Called by the adapters and the shard reader."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import PixelDataError
from workers.pixels import read_pixels

_DICOM_SUFFIXES = {".dcm", ".dicom"}


def read_image(path: Path) -> NDArray[np.float32]:
    """The image at `path`, float32 [rows, columns], 0 (black) to 1 (white).

    DICOM as the node reads it. PNG, JPEG, GIF and TIFF: 8 bits over their whole range, colour as luminance; more than
    8 bits from the lowest to the highest value that occurs, because such files do not say how many of their bits mean
    something (12 of 16 is usual). Raises PixelDataError, for DICOM what `workers.pixels.read_film` raises.
    """
    if path.suffix.lower() in _DICOM_SUFFIXES:
        return read_pixels(path)
    try:
        with Image.open(path) as image:
            # Here, where a cut file raises.
            image.load()
            if image.mode == "F" or image.mode.startswith("I"):
                return _stretched(np.asarray(image))
            return np.asarray(image.convert("L"), np.float32) / np.float32(255)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise PixelDataError(f"{path} cannot be read as an image ({error}); fetch the file again.") from error


def _stretched(values: NDArray[np.generic]) -> NDArray[np.float32]:
    floats = values.astype(np.float32)
    low, high = float(floats.min()), float(floats.max())
    return np.zeros_like(floats) if high == low else (floats - low) / (high - low)
