"""The linear probe: class tokens of the last blocks, perhaps the mean patch of the last one (CheXFound, DINOv2)."""

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from workers.networks.class_rows import check_rows, with_rows
from workers.networks.features import Features


class LinearProbe(nn.Module):
    """Classification head of one linear layer; it looks nowhere.

    Parameters
    ----------
    width : channels of one class token
    classes : K
    blocks : from how many of the last given blocks it takes the class token
    mean_patch : whether the mean over the last block's patches follows them
    """

    def __init__(self, width: int, classes: int, blocks: int = 4, mean_patch: bool = False) -> None:
        super().__init__()
        if blocks < 1:
            raise ValueError(f"a linear probe on {blocks} blocks")
        self.blocks, self.mean_patch = blocks, mean_patch
        self.linear = nn.Linear((blocks + mean_patch) * width, classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """(logits [B, K], attention [B, 1, 0, N]: none)."""
        tokens = features.cls[-self.blocks :]
        patches = features.patches[-1]
        if self.mean_patch:
            tokens = [*tokens, patches.mean(dim=1)]
        logits: Tensor = self.linear(torch.cat(tokens, dim=1))
        return logits, patches.new_zeros(patches.shape[0], 1, 0, patches.shape[1])

    @torch.no_grad()
    def with_classes(self, rows: Sequence[int | None]) -> Self:
        """A head for other classes: class i is the present class `rows[i]`, or with None a new one.

        A class that stays keeps its weights and bias. Raises ValueError for a row that is not there.
        """
        check_rows(rows, self.linear.out_features)
        other = copy.deepcopy(self)
        other.linear = nn.Linear(self.linear.in_features, len(rows))
        other.linear.weight.copy_(with_rows(self.linear.weight, rows, lambda shape: 0.01 * torch.randn(shape)))
        other.linear.bias.copy_(with_rows(self.linear.bias, rows, torch.zeros))
        return other
