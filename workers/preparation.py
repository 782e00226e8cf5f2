"""From a stored DICOM file to what each network is shown of it. Runs in the process pool; called by inference tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Manifest
from schemas.errors import UnsupportedImageError
from schemas.preprocessing import Preprocessing
from workers.pixels import Film, read_film
from workers.placement import Placement
from workers.second_look import Detail, detail_preprocessing


@dataclass(frozen=True)
class Wanted:
    """What a bundle is shown of an image."""

    preprocessing: Preprocessing
    #: For its second look, where it has one.
    detail: Preprocessing | None = None

    @classmethod
    def by(cls, manifest: Manifest) -> "Wanted":
        return cls(manifest.preprocessing, detail_preprocessing(manifest))


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as a bundle's engine takes it."""

    #: float32 [size, size] in 0..1, not normalised.
    pixels: NDArray[np.float32]
    detail: Detail | None


def prepare(path: Path, wanted: Sequence[Wanted]) -> list[Prepared]:
    """Read the image once and place it for each bundle as it is wanted.

    Raises PixelDataError, or UnsupportedImageError for a picture of nothing.
    """
    film = read_film(path)
    if float(np.ptp(film.pixels)) == 0.0:
        raise UnsupportedImageError("Every pixel has the same value: nothing was exposed, or the export failed.")
    return [_prepared(film, each) for each in wanted]


def _prepared(film: Film, wanted: Wanted) -> Prepared:
    def placement(preprocessing: Preprocessing) -> Placement:
        return Placement.of(film.rows, film.columns, preprocessing, film.area)

    detail = None if wanted.detail is None else Detail.of(film.pixels, placement(wanted.detail))
    return Prepared(placement(wanted.preprocessing).apply(film.pixels), detail)
