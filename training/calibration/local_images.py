"""Image files as a network sees them, by the way that the node reads them. Called in the processes of local_logits.py.

Imports no torch, which would take each of them longer to load than to read a hundred images.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.preprocessing import Preprocessing
from training.sources.images import read_image
from workers.bars import area_without_bars
from workers.pixels import Film, read_film
from workers.placement import Placement
from workers.second_look import Detail

_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif"}


@dataclass(frozen=True, eq=False)
class Placed:
    """A file as a network sees it."""

    #: float32 [size, size] in 0..1, not normalised.
    image: NDArray[np.float32]
    placement: Placement
    #: For the second look; None where the network has none.
    detail: Detail | None


def read_placed(path: Path, preprocessing: Preprocessing, finer: Preprocessing | None = None) -> Placed:
    """The file as a network with this preprocessing sees it; `finer` is the second look's, None: it has none.

    Raises what workers/pixels.py and training/sources/images.py raise.
    """
    film = _picture(path) if path.suffix.lower() in _PICTURES else read_film(path)
    placement = Placement.of(film.rows, film.columns, preprocessing, film.area)
    detail = None
    if finer is not None:
        detail = Detail.of(film.pixels, Placement.of(film.rows, film.columns, finer, film.area))
    return Placed(placement.apply(film.pixels), placement, detail)


def _picture(path: Path) -> Film:
    pixels = read_image(path)
    return Film(pixels, area_without_bars((pixels * 65535).astype(np.uint16)))
