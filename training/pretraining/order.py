"""In which order a training sees the images: every image once per round, in an order of its own each round.

The place in the order is all that is needed to go on: nothing of it is kept in a checkpoint but the step.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def rows_of_step(step: int, batch: int, count: int, seed: int) -> NDArray[np.intp]:
    """Rows [batch] of the `count` images that make the global batch of a step."""
    places = np.arange(step * batch, (step + 1) * batch)
    rounds, inside = np.divmod(places, count)
    return np.array([_round(count, seed, int(r))[i] for r, i in zip(rounds, inside, strict=True)], np.intp)


@lru_cache(maxsize=2)
def _round(count: int, seed: int, number: int) -> NDArray[np.intp]:
    # Never written to: everybody gets the same array.
    return np.random.default_rng([seed, 0x5EED, number]).permutation(count)
