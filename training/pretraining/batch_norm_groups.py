"""Batch norm over parts of a batch, as over the GPUs of a larger training: one process stands for several.

Called by moco_v2.py, whose queries and keys must not share the statistics that give the answer away.
"""

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)


class _GroupedBatchNorm2d(nn.BatchNorm2d):
    groups = 1

    def forward(self, images: Tensor) -> Tensor:
        if not self.training or len(images) % self.groups:
            return super().forward(images)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        # Image i belongs to group i modulo groups: the groups stand side by side as channels.
        apart = images.reshape(-1, self.groups * images.shape[1], *images.shape[2:])
        mean, variance = self.running_mean.repeat(self.groups), self.running_var.repeat(self.groups)
        weight, bias = self.weight.repeat(self.groups), self.bias.repeat(self.groups)
        normed = F.batch_norm(apart, mean, variance, weight, bias, True, self.momentum, self.eps)
        self.running_mean.copy_(mean.view(self.groups, -1).mean(dim=0))
        self.running_var.copy_(variance.view(self.groups, -1).mean(dim=0))
        return normed.reshape(images.shape)


def with_groups(network: _Module, groups: int) -> _Module:
    """The same network, in place, whose batch norms see `groups` parts of a batch apart; tensors keep their names."""
    if groups > 1:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = _GroupedBatchNorm2d
                module.groups = groups  # type: ignore[assignment]
    return network
