"""Fresh phantoms as films: rendered larger than the model's input, by two processes, a few ahead of the reader."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.preprocessing import Preprocessing
from training.plain.phantom.render import render_phantom
from training.plain.phantom.truth import Phantom
from training.plain.pool import film_size, placed, render_processes
from workers.placement import Placement

#: Longer side in pixels; larger than the model's input, as films are.
FILM_SIDE = 768
_RENDERED_AHEAD = 12


@dataclass(frozen=True)
class Film:
    """A fresh phantom and what the model sees of it."""

    phantom: Phantom
    #: uint8 [S, S]
    image: NDArray[np.uint8]
    placement: Placement


def fresh_films(seeds: Sequence[int], preprocessing: Preprocessing) -> Iterator[Film]:
    """The phantoms `seeds` in their order, as a model with this `preprocessing` sees them."""
    with render_processes() as processes:
        waiting: deque[Future[Film]] = deque()
        for seed in seeds:
            waiting.append(processes.submit(_film, seed, preprocessing))
            # A film is megabytes: render a few ahead of the reader and not all.
            if len(waiting) > _RENDERED_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _film(seed: int, preprocessing: Preprocessing) -> Film:
    phantom = render_phantom(seed, *film_size(seed, FILM_SIDE))
    return Film(phantom, *placed(phantom, preprocessing))
