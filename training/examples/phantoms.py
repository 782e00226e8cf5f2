"""Phantoms as examples: frontal chests, and a share of images that are none. Called by the stage that renders."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from training.curation.burned_in import without_burned_in
from training.examples.filling import Pictured, Placing, fill
from training.examples.placing import Truth, truth_of
from training.examples.store import Examples
from training.examples.targets import acceptance_classes
from training.phantom.not_chest import render_not_chest
from training.phantom.render import render_phantom
from training.phantom.truth import Family
from training.rendering import film_size

#: Of a fresh seed so many in a hundred are no frontal chest.
NOT_CHEST_PERCENT = 7
#: Longer side of a rendered film in pixels: finer than the second look's detail image, as films are.
FILM_SIDE = 1100
#: Share of the phantoms of a `PhantomMaker` with `corners` that is treated as radiographs are.
_CLEANED = 0.5


@dataclass(frozen=True)
class PhantomMaker:
    """The phantom, or the image that is no frontal chest, of `first_seed` + index.

    Radiographs are learned from without letters near their borders and without corners, because what a hospital writes
    there goes with its patients' diseases; the finder misses faint letters, so none of them keeps its corners. A model
    could tell radiographs from phantoms by that, so half of the phantoms that are learned from beside radiographs are
    treated alike. The other half stays as drawn, as films are that a node receives.
    """

    first_seed: int
    family: Family = Family.TRAINING
    film_side: int = FILM_SIDE
    #: As for radiographs (CurationSettings.corners); None: every phantom stays as drawn.
    corners: float | None = None

    def __call__(self, index: int) -> Pictured:
        seed = self.first_seed + index
        pictured = self._drawn(seed)
        # A stream of its own: seeds decide views and kinds of images elsewhere.
        if self.corners is None or np.random.default_rng([seed, 0xC0]).random() >= _CLEANED:
            return pictured
        return Pictured(without_burned_in(pictured.image, self.corners), pictured.truth)

    def _drawn(self, seed: int) -> Pictured:
        rows, columns = film_size(seed, self.film_side)
        if seed * 37 % 100 < NOT_CHEST_PERCENT:
            other = render_not_chest(seed, rows, columns, family=self.family)
            return Pictured(other.image, Truth(acceptance_classes(other.reason)))
        phantom = render_phantom(seed, rows, columns, family=self.family)
        return Pictured(phantom.image, truth_of(phantom))


def render_examples(maker: PhantomMaker, count: int, folder: Path, placing: Placing, progress: Progress) -> Examples:
    """The phantoms `maker.first_seed` ... + `count` as examples in `folder`; what is there already is kept."""
    return fill(folder, count, maker, placing, progress, "Rendering phantoms")
