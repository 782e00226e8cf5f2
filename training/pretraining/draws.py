"""Random numbers of a batch's images: each image's come from seed, step and its place in the global batch alone.

So a training that was killed goes on as it would have, and two processes draw what one draws. Used by views.py and by
the methods for their masks.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Draws:
    """One stream per image of the batch; every call draws from each of them alike."""

    def __init__(self, seed: int, step: int, places: Sequence[int]) -> None:
        #: Of each image, to draw from where the number of draws differs between images.
        self.streams = [np.random.default_rng([seed, step, place]) for place in places]

    def __len__(self) -> int:
        return len(self.streams)

    def uniform(self, *shape: int) -> Tensor:
        """float32 [B, *shape] in 0..1."""
        return torch.from_numpy(self._stacked([each.random(shape, np.float32) for each in self.streams]))

    def normal(self, *shape: int) -> Tensor:
        """float32 [B, *shape], mean 0 and variance 1."""
        return torch.from_numpy(self._stacked([each.standard_normal(shape, np.float32) for each in self.streams]))

    @staticmethod
    def _stacked(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack([np.asarray(part, np.float32) for part in parts])
