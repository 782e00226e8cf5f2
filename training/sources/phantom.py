"""Phantoms as a source: what curation and training read of radiographs, they read of simulated ones alike."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from schemas.codes import Finding
from training.examples.targets import phantom_classes
from training.phantom.render import render_phantom
from training.phantom.truth import Phantom, Structure
from training.sources.masks import ArrayMask
from training.sources.source import Course, Mask, Sample, Sex, View, view_labels

_SEXES: dict[str, Sex] = {"F": "F", "M": "M"}
_VIEWS: dict[str, View] = {"PA": "PA", "AP": "AP", "LL": "LL"}


@dataclass(frozen=True)
class Phantoms:
    """`count` phantoms from `first_seed` on, squares of `side` pixels; each is another patient."""

    count: int
    first_seed: int = 0
    side: int = 768
    name: str = "phantom"
    document: str = "training/phantom"
    verified: bool = True

    def __iter__(self) -> Iterator[Sample]:
        for seed in range(self.first_seed, self.first_seed + self.count):
            yield self._sample(seed)

    def _sample(self, seed: int) -> Sample:
        draw = partial(_drawn, seed, self.side)
        phantom = draw()
        view = _VIEWS[phantom.view.value]
        outlined: tuple[Structure | Finding, ...] = (*phantom.masks, *phantom.finding_masks)
        masks: dict[str, Mask] = {what.value: _DrawnMask(draw, what) for what in outlined}
        return Sample(
            source=self.name,
            key=f"seed-{seed}",
            patient=f"seed-{seed}",
            licence="CC0 1.0",
            # Drawn again when it is read: many of them do not fit into memory.
            read=partial(_image, draw),
            labels=view_labels(view) | phantom_classes(phantom),
            view=view,
            age_years=phantom.age_years,
            sex=_SEXES[phantom.sex],
            masks=masks,
            landmarks=phantom.landmarks,
            courses=tuple(
                Course(device.kind.value, device.course, device.position)
                for device in phantom.devices
                if len(device.course)
            ),
        )


@dataclass(frozen=True)
class _DrawnMask:
    draw: Callable[[], Phantom]
    what: Structure | Finding

    def read(self, rows: int, columns: int) -> NDArray[np.bool_]:
        return self._drawn().read(rows, columns)

    def digest(self) -> str:
        return self._drawn().digest()

    def _drawn(self) -> ArrayMask:
        phantom = self.draw()
        return ArrayMask(
            phantom.masks[self.what] if isinstance(self.what, Structure) else phantom.finding_masks[self.what]
        )


@lru_cache(maxsize=2)
def _drawn(seed: int, side: int) -> Phantom:
    return render_phantom(seed, side, side)


def _image(draw: Callable[[], Phantom]) -> NDArray[np.float32]:
    return draw().image
