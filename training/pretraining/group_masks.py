"""Group masks of pixels: rectangles that hide or replace connected parts of an image (GMML, arXiv 2205.14986).

Called by gmml.py and sit.py.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from training.pretraining.draws import Draws

_Share = Annotated[float, Field(gt=0, le=1)]


class Corruption(BaseModel):
    """By default as GMML's public code corrupts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Share of the pixels that is hidden, drawn between these, and by what.
    hidden: tuple[_Share, _Share] = (0.5, 0.75)
    fill: Literal["noise", "zeros"] = "noise"
    #: Share of the pixels that another image's take the place of, and how often that is done instead of hiding.
    replaced: _Share = 0.3
    instead: Annotated[float, Field(ge=0, le=1)] = 0.5
    #: Longest side of a rectangle, of the image's.
    rectangle: _Share = 0.3


@dataclass(frozen=True)
class Corrupted:
    """Images and where they were changed."""

    #: As the images: [B, C, S, S].
    images: Tensor
    #: bool [B, 1, S, S].
    changed: Tensor


def corrupt(images: Tensor, how: Corruption, draws: Draws) -> Corrupted:
    """Images float32 [B, C, S, S], normalised, with parts hidden or replaced by those of another of them."""
    side = images.shape[2]
    instead = np.array([stream.random() < how.instead for stream in draws.streams])
    others = [int(stream.integers(1, max(2, len(images)))) for stream in draws.streams]
    masks = []
    for stream, other in zip(draws.streams, instead, strict=True):
        share = how.replaced if other else stream.uniform(*how.hidden)
        masks.append(_rectangles(side, share, max(1, int(how.rectangle * side)), stream))
    changed = torch.from_numpy(np.stack(masks))[:, None].to(images.device)
    taken = [(index + other) % len(images) for index, other in enumerate(others)]
    noise = how.fill == "noise"
    filling = draws.normal(images.shape[1], side, side).to(images) if noise else torch.zeros_like(images)
    filling = torch.where(torch.from_numpy(instead).to(images.device)[:, None, None, None], images[taken], filling)
    return Corrupted(torch.where(changed, filling, images), changed)


def _rectangles(side: int, share: float, longest: int, stream: np.random.Generator) -> NDArray[np.bool_]:
    """bool [side, side]: rectangles anywhere, in any shape, until they cover the share."""
    mask = np.zeros((side, side), np.bool_)
    missing = int(share * side * side)
    while missing > 0:
        height, width = stream.integers(1, longest + 1, 2)
        top, left = stream.integers(side - height + 1), stream.integers(side - width + 1)
        block = mask[top : top + height, left : left + width]
        missing -= block.size - int(block.sum())
        block[:] = True
    return mask
