"""What training minimises: classes, regions, courses and heat maps, each over what is known of an example.

Called by training/learning/looks.py. Truths are NaN where they are unknown or make no sense.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.examples.targets import CHANNELS, COURSES, PLACED_FINDINGS, REGIONS
from training.learning.augment import HEAT_SIGMA, PATCH, CloserBatch, FirstBatch
from workers.networks.dense import STRIDE
from workers.networks.network import NetworkOutput

#: What a patch token is told about its place: all dense channels, then the placed findings.
TOKEN_MAPS = len(CHANNELS) + len(PLACED_FINDINGS)
#: A rare class's present cases weigh at most so much more than its absent ones.
_GREATEST_WEIGHT = 6.0
_COURSE_WEIGHT = 4.0


@dataclass(frozen=True)
class Weights:
    """Of the parts of the loss, at one step of the training."""

    classes: float
    courses: float

    @classmethod
    def at(cls, done: float) -> "Weights":
        """After the share `done` (0..1) of the steps: first where lines run, then what follows from it."""
        early = max(0.0, 1 - done / 0.3)
        return cls(classes=2.0 - 1.5 * early, courses=1.0 + 1.5 * early)


def present_weights(shares: NDArray[np.float64]) -> Tensor:
    """How much a present case of each class weighs, from the share of present cases: [K]."""
    return torch.from_numpy(np.clip(((1 - shares) / np.maximum(shares, 1e-6)) ** 0.5, 1.0, _GREATEST_WEIGHT)).float()


def first_loss(
    output: NetworkOutput, batch: FirstBatch, columns: Tensor, present: Tensor, weights: Weights
) -> dict[str, Tensor]:
    """The parts of the first look's loss, scalars to be summed: "classes", "regions", "courses", "landmarks".

    Parameters
    ----------
    columns : which of the batch's classes the network's logits are, in their order
    present : [K], see `present_weights`
    """
    dense = output.dense.float()
    regions, courses, landmarks = (
        slice(0, len(REGIONS)),
        slice(len(REGIONS), len(REGIONS) + len(COURSES)),
        slice(len(REGIONS) + len(COURSES), len(CHANNELS)),
    )
    return {
        "classes": weights.classes * _class_loss(output.logits.float(), batch.classes[:, columns], present),
        "regions": _mask_loss(dense[:, regions], batch.dense[:, regions], 1.0),
        # A course covers one cell in a hundred; without a weight, "no tube anywhere" would be learned first.
        "courses": weights.courses * _mask_loss(dense[:, courses], batch.dense[:, courses], _COURSE_WEIGHT),
        "landmarks": _heat_loss(dense[:, landmarks], batch.dense[:, landmarks]),
    }


def token_loss(logits: Tensor, batch: FirstBatch) -> Tensor:
    """Weighted cross-entropy of per-patch logits [B, N, TOKEN_MAPS] against what each patch shows, N row by row.

    Thin and small things are not learned from an image's labels alone: the patch tokens, from which the
    classification head reads, have to be told where things are.
    """
    wanted = torch.cat([F.max_pool2d(batch.dense, PATCH // STRIDE), batch.findings], dim=1)
    maps = logits.float().transpose(1, 2).reshape(wanted.shape)
    known, truth = _known(wanted)
    entropy = F.binary_cross_entropy_with_logits(maps, truth, pos_weight=maps.new_tensor(4.0), reduction="none")
    return 4 * _mean(entropy, known)


def closer_loss(dense: Tensor, batch: CloserBatch) -> dict[str, Tensor]:
    """The parts of the second look's loss, see `CLOSER_CHANNELS`; `dense` are its logits.

    "tube" is the course of the endotracheal tube, "courses" are the other ones, "landmarks" are tip and carina.
    """
    dense, courses = dense.float(), len(COURSES)
    return {
        "tube": _mask_loss(dense[:, :1], batch.dense[:, :1], 2.0),
        "courses": 0.5 * _mask_loss(dense[:, 1:courses], batch.dense[:, 1:courses], 2.0),
        "landmarks": 2 * _heat_loss(dense[:, courses:], batch.dense[:, courses:]),
    }


def _class_loss(logits: Tensor, truth: Tensor, present: Tensor) -> Tensor:
    known, truth = _known(truth)
    return _mean(F.binary_cross_entropy_with_logits(logits, truth, pos_weight=present, reduction="none"), known)


def _mask_loss(logits: Tensor, truth: Tensor, positive_weight: float) -> Tensor:
    """Cross-entropy plus 1 - soft Dice; Dice over the whole batch, so that images without the structure count too."""
    known, truth = _known(truth)
    weight = logits.new_tensor(positive_weight)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, pos_weight=weight, reduction="none")
    scores = logits.sigmoid() * known
    overlap = (scores * truth).sum(dim=(0, 2, 3))
    dice = (2 * overlap + 1) / (scores.sum(dim=(0, 2, 3)) + (truth * known).sum(dim=(0, 2, 3)) + 1)
    taught = known.amax(dim=(0, 2, 3))
    return _mean(entropy, known) + _mean(1 - dice, taught)


def _heat_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy against the heat map, summed over the map in units of one blob's area."""
    known, truth = _known(truth)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(dim=(2, 3))
    return _mean(entropy, known[:, :, 0, 0]) / (2 * torch.pi * HEAT_SIGMA**2)


def _known(truth: Tensor) -> tuple[Tensor, Tensor]:
    """1 where a truth is known, else 0; and the truth with 0 instead of NaN."""
    return (~truth.isnan()).float(), truth.nan_to_num(nan=0.0)


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """Over what is known; 0 when nothing is."""
    return (values * known).sum() / known.sum().clamp_min(1.0)
