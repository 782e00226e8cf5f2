"""The network from placed image to outputs as one graph, so that every backend computes the same."""

from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from schemas.preprocessing import Preprocessing
from workers.networks.network import Network


class GraphOutput(NamedTuple):
    """As `workers.backends.backend.Outputs`, in tensors."""

    logits: Tensor
    attention: Tensor
    dense: Tensor


class InferenceGraph(nn.Module):
    """Normalisation, network, mean of the attention over its heads; evaluation mode."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name)).reshape(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.eval()

    def forward(self, images: Tensor) -> GraphOutput:
        """`images` float32 [B, S, S] in 0..1."""
        output = self.network((images[:, None] - self.mean) / self.std)
        side = isqrt(int(output.attention.shape[-1]))
        maps = output.attention.mean(dim=1)
        return GraphOutput(output.logits, maps.reshape(maps.shape[0], maps.shape[1], side, side), output.dense)
