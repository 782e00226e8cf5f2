"""Fresh phantoms as films: drawn finer than the model's input."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from schemas.bundle import Manifest
from training.evaluation.drawing import drawn
from training.evaluation.seeing import Seen, seen
from training.examples.phantoms import FILM_SIDE
from training.phantom.render import render_phantom
from training.phantom.truth import Family, Phantom
from training.rendering import film_size


@dataclass(frozen=True, eq=False)
class PhantomFilm:
    """A phantom and what the model sees of it."""

    phantom: Phantom
    seen: Seen


def phantom_films(seeds: Sequence[int], manifest: Manifest, family: Family = Family.FROZEN) -> Iterator[PhantomFilm]:
    """The phantoms `seeds` in their order, as the model of this `manifest` sees them."""
    return drawn(partial(_film, manifest=manifest, family=family), seeds)


def _film(seed: int, *, manifest: Manifest, family: Family) -> PhantomFilm:
    phantom = render_phantom(seed, *film_size(seed, FILM_SIDE), family=family)
    return PhantomFilm(phantom, seen(phantom.image, manifest))
