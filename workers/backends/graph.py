"""The network from placed image to outputs as one graph, so that every backend computes the same."""

from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from schemas.preprocessing import Preprocessing
from workers.networks.network import Network
from workers.networks.second_look import SecondLook


class GraphOutput(NamedTuple):
    """As `workers.backends.backend.Outputs`, in tensors."""

    logits: Tensor
    attention: Tensor
    dense: Tensor


class _Normalised(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name)).reshape(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def normalised(self, images: Tensor) -> Tensor:
        return (images[:, None] - self.mean) / self.std


class InferenceGraph(_Normalised):
    """Normalisation, network, mean of the attention over its heads; evaluation mode."""

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        super().__init__(preprocessing)
        self.network = network
        self.eval()

    def forward(self, images: Tensor) -> GraphOutput:
        """`images` float32 [B, S, S] in 0..1."""
        output = self.network(self.normalised(images))
        side = isqrt(int(output.attention.shape[-1]))
        maps = output.attention.mean(dim=1)
        return GraphOutput(output.logits, maps.reshape(maps.shape[0], maps.shape[1], side, side), output.dense)


class CloserGraph(_Normalised):
    """Normalisation and second look; evaluation mode. No class is scored and no evidence is looked for here."""

    def __init__(self, second_look: SecondLook, preprocessing: Preprocessing) -> None:
        super().__init__(preprocessing)
        self.second_look = second_look
        self.eval()

    def forward(self, crops: Tensor) -> GraphOutput:
        """`crops` float32 [B, side, side] in 0..1."""
        dense = self.second_look(self.normalised(crops))
        return GraphOutput(dense.new_zeros(dense.shape[0], 0), dense.new_zeros(dense.shape[0], 0, 1, 1), dense)
