"""From a stored DICOM file to what each network is shown of it. Runs in the process pool; called by inference tasks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UnsupportedImageError
from schemas.preprocessing import Preprocessing
from workers.pixels import read_film
from workers.placement import Placement


def prepare(path: Path, preprocessings: Sequence[Preprocessing]) -> list[NDArray[np.float32]]:
    """Read the image once and place it for each of `preprocessings`: float32 [size, size] in 0..1, not normalised.

    Raises PixelDataError, or UnsupportedImageError for a picture of nothing.
    """
    film = read_film(path)
    if float(np.ptp(film.pixels)) == 0.0:
        raise UnsupportedImageError("Every pixel has the same value: nothing was exposed, or the export failed.")
    return [Placement.of(film.rows, film.columns, each, film.area).apply(film.pixels) for each in preprocessings]
