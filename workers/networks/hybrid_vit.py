"""The small backbone: a convolutional stem whose stages stay available as skips, then a short vision transformer.

Thin tubes are one pixel wide at the model's resolution; the stem keeps them, the transformer says what they are.
Registered with timm, so that a manifest names it and `timm.create_model` makes it.
"""

from itertools import pairwise
from typing import Any

import torch
from timm.models import register_model
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from workers.networks.features import LAST_BLOCKS, Backbone, Features, refuse_pretrained


class HybridViT(Backbone):
    """Convolutional stem (stride 16) and `depth` transformer blocks of `width` channels for 1-channel images."""

    def __init__(self, img_size: int, width: int, depth: int, heads: int, stem: tuple[int, int, int]) -> None:
        super().__init__()
        channels = (1, *stem, width)
        self.channels, self.width, self.blocks_given, self.skip_channels = 1, width, LAST_BLOCKS, channels[1:]
        self.stem = nn.ModuleList(_stage(before, after) for before, after in pairwise(channels))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + (img_size // 16) ** 2, width))
        blocks = [Block(width, heads, qkv_bias=True) for _ in range(depth)]
        for block in blocks:
            # For so few tokens on a CPU the fused kernel makes a training step 1.4 times as long.
            attention: Any = block.attn
            attention.fused_attn = False
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, images: Tensor) -> Features:
        """`images` float32 [B, 1, S, S], normalised; S as given to the constructor."""
        skips = []
        feature = images
        for stage in self.stem:
            feature = stage(feature)
            skips.append(feature)
        tokens = feature.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1) + self.pos_embed
        last = []
        for block in self.blocks:
            tokens = block(tokens)
            last.append(tokens)
        normed = [self.norm(tokens) for tokens in last[-LAST_BLOCKS:]]
        rows, columns = feature.shape[2:]
        return Features([each[:, 1:] for each in normed], [each[:, 0] for each in normed], (rows, columns), skips)


def _stage(before: int, after: int) -> nn.Sequential:
    """Halve the resolution, then look once more."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


@register_model
def hybrid_vit_tiny_patch16(
    pretrained: bool = False, *, img_size: int = 384, width: int = 192, depth: int = 6, **timm_arguments: Any
) -> HybridViT:
    """Six blocks of width 192 on a stem of 24, 48 and 96 channels; 3.1 M parameters.

    Raises ValueError for `pretrained` (weights come from a bundle) and for an argument it does not know.
    """
    refuse_pretrained("hybrid_vit_tiny_patch16", pretrained, timm_arguments)
    if img_size % 16 or width % 64 or depth < LAST_BLOCKS:
        raise ValueError(f"Size {img_size}, width {width} or depth {depth} does not fit patches, heads and blocks.")
    return HybridViT(img_size, width, depth, width // 64, (width // 8, width // 4, width // 2))
