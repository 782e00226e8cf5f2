"""What training minimises: classes, regions, the tube's course and landmark heat maps."""

import torch
import torch.nn.functional as F
from torch import Tensor

from training.plain.augment import HEAT_SIGMA, PATCH, Batch
from training.plain.phantom.truth import LOCALISED_FINDINGS
from training.plain.targets import CHANNELS
from workers.networks.dense import STRIDE
from workers.networks.network import NetworkOutput

#: Channels 0..3 of the dense head are masks, the last of them the course; the others are heat maps.
_MASKS = 4
_COURSE = 3
#: What a patch token is told about its place: all dense channels, then the localised findings.
TOKEN_MAPS = len(CHANNELS) + len(LOCALISED_FINDINGS)


def training_loss(output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
    """The parts of the loss, scalars to be summed: "classes", "regions", "course", "landmarks"."""
    dense = output.dense.float()
    masks, wanted = dense[:, :_MASKS], batch.dense[:, :_MASKS]
    return {
        # The classes learn slowest and must not drown in what the dense parts pull on the backbone.
        "classes": 2 * _class_loss(output.logits.float(), batch.classes),
        "regions": _mask_loss(masks[:, :_COURSE], wanted[:, :_COURSE], 1.0),
        # A course covers one cell in a hundred; without a weight, "no tube anywhere" would be learned first.
        "course": _mask_loss(masks[:, _COURSE:], wanted[:, _COURSE:], 4.0),
        "landmarks": _heat_loss(dense[:, _MASKS:], batch.dense[:, _MASKS:]),
    }


def token_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Weighted cross-entropy of per-patch logits [B, N, TOKEN_MAPS] against what each patch shows, N row by row.

    Thin and small things are not learned from an image's labels alone: the patch tokens, from which the
    classification head reads, have to be told where things are.
    """
    wanted = torch.cat([F.max_pool2d(batch.dense, PATCH // STRIDE), batch.findings], dim=1)
    maps = logits.float().transpose(1, 2).reshape(wanted.shape)
    return 4 * F.binary_cross_entropy_with_logits(maps, wanted, pos_weight=torch.tensor(4.0))


def _class_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy over the entries of [B, K] that apply (not NaN)."""
    applies = ~truth.isnan()
    return F.binary_cross_entropy_with_logits(logits[applies], truth[applies])


def _mask_loss(logits: Tensor, truth: Tensor, positive_weight: float) -> Tensor:
    """Cross-entropy plus 1 - soft Dice; Dice over the whole batch, so that images without the structure count too."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, pos_weight=torch.tensor(positive_weight))
    scores = logits.sigmoid()
    overlap = (scores * truth).sum(dim=(0, 2, 3))
    dice = (2 * overlap + 1) / (scores.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3)) + 1)
    return entropy + 1 - dice.mean()


def _heat_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy against the heat map, summed over the map in units of one blob's area."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(dim=(2, 3))
    return entropy.mean() / (2 * torch.pi * HEAT_SIGMA**2)
