"""What a network says of an image, both looks, computed as the engine does. Called by evaluations, not by serving."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.bundle import Manifest
from training.examples.placing import place
from workers.bundle import normalised
from workers.networks.network import Network
from workers.output import Closer, ModelOutput
from workers.placement import Placement
from workers.second_look import Detail, detail_preprocessing, look_closer


@dataclass(frozen=True, eq=False)
class Seen:
    """An image as a model sees it."""

    #: uint8 [S, S]
    image: NDArray[np.uint8]
    placement: Placement
    #: For the second look; None where the model has none.
    detail: Detail | None


def seen(image: NDArray[np.float32], manifest: Manifest) -> Seen:
    """An image float32 [rows, columns] in 0..1 placed for each look."""
    pixels, placement = place(image, manifest.preprocessing)
    finer = detail_preprocessing(manifest)
    if finer is None:
        return Seen(pixels, placement, None)
    detail = Detail.of(image, Placement.of(placement.rows, placement.columns, finer, placement.area))
    return Seen(pixels, placement, detail)


def look(network: Network, manifest: Manifest, image: Seen) -> ModelOutput:
    """The output of a network in evaluation mode for one image."""
    with torch.inference_mode():
        logits, attention, dense = (
            each.numpy() for each in network(normalised(image.image[None], manifest.preprocessing))
        )
    (closer,) = second_looks(network, manifest, dense, [image.detail])
    side = round(attention.shape[-1] ** 0.5)
    maps = attention.mean(axis=1).reshape(1, logits.shape[1], side, side)
    return ModelOutput(logits[0], maps[0].astype(np.float16), dense[0].astype(np.float16), closer)


def second_looks(
    network: Network, manifest: Manifest, dense: NDArray[np.floating], details: Sequence[Detail | None]
) -> list[Closer | None]:
    """The second look at each of n images, from the first look's `dense` [n, C, H, W]; None: without one."""
    rows = [row for row, detail in enumerate(details) if detail is not None]
    found: list[Closer | None] = [None] * len(details)
    if rows:
        kept = [detail for detail in details if detail is not None]
        looked = look_closer(dense[rows], kept, manifest, lambda crops: _closer(network, manifest, crops))
        for row, each in zip(rows, looked, strict=True):
            found[row] = None if each is None else each.closer()
    return found


def _closer(network: Network, manifest: Manifest, crops: NDArray[np.float32]) -> NDArray[np.float32]:
    assert network.second_look is not None
    eight_bit = np.round(crops * 255).astype(np.uint8)
    images = normalised(eight_bit, manifest.preprocessing).to(next(network.second_look.parameters()).device)
    with torch.inference_mode():
        logits: NDArray[np.float32] = network.second_look(images).cpu().numpy()
    return logits
