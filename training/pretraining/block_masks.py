"""Block masks on a grid of patches, as BEiT, iBOT and DINOv2 draw them (Bao et al., arXiv 2106.08254, algorithm 1)."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.pretraining.draws import Draws

#: A block has at least so many patches, and a height of 0.3 to 1 / 0.3 of its width.
_LEAST_PATCHES = 4
_LEAST_ASPECT = 0.3
_ATTEMPTS = 10


def block_masks(draws: Draws, side: int, crops: int, share: float, patches: tuple[float, float]) -> Tensor:
    """bool [B, crops, side, side]: each crop is masked with probability `share`, by a share of patches between two.

    DINOv2 masks exactly half of a batch's crops, in evenly spaced shares; here each crop is drawn by itself, so that
    the masks of an image are the same however many processes share the batch.
    """
    masks = [[_mask(stream, side, share, patches) for _ in range(crops)] for stream in draws.streams]
    return torch.from_numpy(np.array(masks))


def _mask(stream: np.random.Generator, side: int, share: float, patches: tuple[float, float]) -> NDArray[np.bool_]:
    mask = np.zeros((side, side), np.bool_)
    if stream.random() >= share:
        return mask
    wanted = int(stream.uniform(*patches) * side * side)
    while (missing := wanted - int(mask.sum())) > 0:
        if not _grow(mask, missing, stream):
            break
    return mask


def _grow(mask: NDArray[np.bool_], most: int, stream: np.random.Generator) -> bool:
    """Add one block of at most `most` new patches; whether one was found."""
    side = len(mask)
    for _ in range(_ATTEMPTS):
        area = stream.uniform(min(_LEAST_PATCHES, most), most)
        aspect = math.exp(stream.uniform(math.log(_LEAST_ASPECT), -math.log(_LEAST_ASPECT)))
        height, width = max(1, round(math.sqrt(area * aspect))), max(1, round(math.sqrt(area / aspect)))
        if height >= side or width >= side:
            continue
        top, left = stream.integers(side - height + 1), stream.integers(side - width + 1)
        block = mask[top : top + height, left : left + width]
        if 0 < block.size - int(block.sum()) <= most:
            block[:] = True
            return True
    return False
