"""Images that lie on their side, stand on their head or are negatives, told by the rest of their source."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.curation.fingerprint import Fingerprint

_SIDE = 16
#: The typical image of fewer is a particular one.
_FEWEST = 20
#: By how much another orientation must fit the typical image better. Measured on 1,592 real images, where one stands on
#: its head: that one has 0.67; the next, which have the chest at the edge of the film, at most 0.27.
_MARGIN = 0.3
_TURNS = {1: "turned by 90 degrees", 2: "upside down", 3: "turned by 270 degrees"}


def orientation_faults(prints: Sequence[Fingerprint]) -> list[str | None]:
    """For each image of one source what is wrong with its orientation, None when nothing is.

    Each is compared with the median of all, squeezed to 16 x 16, as it is, turned, and as a negative: most images of a
    source are the right way up. Of fewer than 20 images nothing is said. A mirrored image is not recognised.
    """
    if len(prints) < _FEWEST:
        return [None] * len(prints)
    small = np.stack([_small(each) for each in prints])
    typical = np.median(_standardised(small), axis=0)
    typical = (typical - typical.mean()) / max(float(np.linalg.norm(typical - typical.mean())), 1e-6)
    upright = _standardised(small) @ typical
    turned = {turns: _standardised(np.rot90(small, turns, (1, 2))) @ typical for turns in _TURNS}
    faults: list[str | None] = []
    for index, fit in enumerate(upright):
        turns = max(turned, key=lambda each: float(turned[each][index]))
        if fit < -_MARGIN:
            faults.append("negative")
        elif turned[turns][index] > fit + _MARGIN:
            faults.append(_TURNS[turns])
        else:
            faults.append(None)
    return faults


def _small(seen: Fingerprint) -> NDArray[np.float32]:
    thumbnail = Image.fromarray(seen.thumbnail_pixels())
    return np.asarray(thumbnail.resize((_SIDE, _SIDE), Image.Resampling.BOX))


def _standardised(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [N, pixels], each of mean 0 and length 1."""
    flat = images.reshape(len(images), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    length = np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    return np.asarray(centred / length, np.float32)
