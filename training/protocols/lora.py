"""LoRA (Hu et al., arXiv 2106.09685): small matrices beside frozen ones, in attention and feed-forward nets of a ViT.

Called by tuning.py. Layers are named exactly: "proj" alone would hit the patch embedding, and SwiGLU has no fc1.
"""

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ADAPTED = re.compile(r"blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(w12|w3|fc1|fc2))")


class LoraLinear(nn.Module):
    """layer(x) + scale / rank * up(down(dropout(x))); in the beginning the layer itself, which stands still."""

    def __init__(self, layer: nn.Linear, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.layer, self.factor, self.dropout = layer.requires_grad_(False), scale / rank, nn.Dropout(dropout)
        self.down = nn.Parameter(torch.empty(rank, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, tokens: Tensor) -> Tensor:
        beside = F.linear(F.linear(self.dropout(tokens), self.down), self.up)
        output: Tensor = self.layer(tokens) + self.factor * beside
        return output


def add_lora(backbone: nn.Module, *, rank: int = 16, scale: float = 16.0, dropout: float = 0.1) -> list[str]:
    """Freeze the backbone and put LoRA into its blocks, in place; the names of the layers that have it.

    Raises ValueError for a network without transformer blocks.
    """
    backbone.requires_grad_(False)
    names = [name for name, module in backbone.named_modules() if _ADAPTED.fullmatch(name) and _is_linear(module)]
    if not names:
        raise ValueError("LoRA is for transformers: this backbone has no blocks with attention")
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = backbone.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        setattr(backbone.get_submodule(parent), last, LoraLinear(layer, rank, scale, dropout))
    return names


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)
