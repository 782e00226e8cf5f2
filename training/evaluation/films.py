"""Fresh phantoms as films: drawn finer than the model's input, by two processes, a few ahead of the reader."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from schemas.bundle import Manifest
from training.evaluation.seeing import Seen, seen
from training.examples.phantoms import FILM_SIDE
from training.phantom.render import render_phantom
from training.phantom.truth import Family, Phantom
from training.rendering import film_size, render_processes

_AHEAD = 8
#: So few are drawn before processes for it have started.
_FEW = 4


@dataclass(frozen=True, eq=False)
class PhantomFilm:
    """A phantom and what the model sees of it."""

    phantom: Phantom
    seen: Seen


def phantom_films(seeds: Sequence[int], manifest: Manifest, family: Family = Family.FROZEN) -> Iterator[PhantomFilm]:
    """The phantoms `seeds` in their order, as the model of this `manifest` sees them."""
    if len(seeds) <= _FEW:
        yield from (_film(seed, manifest, family) for seed in seeds)
        return
    with render_processes() as processes:
        waiting: deque[Future[PhantomFilm]] = deque()
        for seed in seeds:
            waiting.append(processes.submit(_film, seed, manifest, family))
            # A film with its masks is ten megabytes: draw a few ahead of the reader and not all.
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _film(seed: int, manifest: Manifest, family: Family) -> PhantomFilm:
    phantom = render_phantom(seed, *film_size(seed, FILM_SIDE), family=family)
    return PhantomFilm(phantom, seen(phantom.image, manifest))
