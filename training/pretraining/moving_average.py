"""The moving average of a network's weights (mean teacher, Tarvainen and Valpola, arXiv 1703.01780)."""

import torch
from lightly.models.utils import update_momentum
from torch import nn


@torch.no_grad()
def move(average: nn.Module, towards: nn.Module, momentum: float) -> None:
    """average <- momentum * average + (1 - momentum) * towards, of every parameter; buffers stay each its own."""
    update_momentum(towards, average, momentum)
