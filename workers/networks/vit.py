"""The vision transformer of the published foundation models: CheXFound (DINOv2), MAE, GMML and SiT in one module.

Registered with timm as `chexnode_vit_patch16`; tensor names are the published ones. Made by create_backbone.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from timm.models import register_model
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from workers.networks.features import LAST_BLOCKS, Backbone, Features, refuse_pretrained

PATCH = 16
#: LayerScale's value before training (DINOv2).
_LAYER_SCALE = 1e-5


class ViT(Backbone):
    """Pre-norm vision transformer on 16 x 16 patches for images of any height and width that are multiples of 16.

    Parameters
    ----------
    img_size : side in pixels of the square whose positions were learned
    embed_dim, depth, num_heads : width, blocks, attention heads
    hidden : width of the feed-forward nets
    ffn : "mlp" (two layers, GELU) or "swiglu" (silu(a) * b of one layer's two halves, then another layer)
    in_chans : channels of the images
    reg_tokens : register tokens (Darcet et al., arXiv 2309.16588), which no head sees
    layer_scale : whether each residual has a learned scale per channel
    mask_token : whether the pre-training's mask token is kept; inference does not use it
    interpolate_offset : added to rows and columns when positions are resampled (0.1 in DINOv2 and CheXFound)
    out_indices : blocks, from 0, whose tokens the heads get; the last one must be the last block
    pool : where `Features.cls` comes from: "cls" the class token, "mean" the norm of the patches' mean (MAE fine-tuned)
    """

    def __init__(
        self,
        *,
        img_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        hidden: int,
        ffn: Literal["mlp", "swiglu"],
        in_chans: int,
        reg_tokens: int,
        layer_scale: bool,
        mask_token: bool,
        interpolate_offset: float,
        out_indices: Sequence[int],
        pool: Literal["cls", "mean"],
    ) -> None:
        super().__init__()
        self.channels, self.width, self.blocks_given, self.skip_channels = in_chans, embed_dim, len(out_indices), ()
        self.side, self.offset, self.out_indices, self.pool = (
            img_size // PATCH,
            interpolate_offset,
            tuple(out_indices),
            pool,
        )
        self.prefix = 1 + reg_tokens
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, embed_dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, reg_tokens, embed_dim)) if reg_tokens else None
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim)) if mask_token else None
        self.patch_embed = _PatchEmbedding(in_chans, embed_dim)
        feed_forward = SwiGLU if ffn == "swiglu" else Mlp
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                qkv_bias=True,
                init_values=_LAYER_SCALE if layer_scale else None,
                norm_layer=_norm,  # type: ignore[arg-type]
                # The width is given outright: as a ratio it could be rounded to another.
                mlp_layer=lambda **_: feed_forward(embed_dim, hidden),  # type: ignore[arg-type]
            )
            for _ in range(depth)
        )
        self.norm = _norm(embed_dim)
        for tokens in (self.cls_token, self.register_tokens):
            if tokens is not None:
                nn.init.normal_(tokens, std=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, images: Tensor) -> Features:
        """`images` float32 [B, in_chans, H, W], normalised; H and W multiples of 16."""
        feature = self.patch_embed(images)
        # Plain numbers even while traced for another engine, which serves one size.
        rows, columns = (int(side) for side in feature.shape[2:])
        tokens = feature.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = tokens + self.positions(rows, columns).to(tokens.dtype)
        if self.register_tokens is not None:
            # They have no position and stand between the class token and the patches.
            registers = self.register_tokens.expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)
        patches, cls = [], []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.out_indices:
                normed = self.norm(tokens)
                patches.append(normed[:, self.prefix :])
                if self.pool == "cls":
                    cls.append(normed[:, 0])
                else:
                    cls.append(self.norm(tokens[:, self.prefix :].mean(dim=1)))
        return Features(patches, cls, (rows, columns), [])

    def positions(self, rows: int, columns: int) -> Tensor:
        """Position embedding [1, 1 + rows * columns, width] for a grid of patches.

        The learned grid as it is, or resampled as DINOv2 does (facebookresearch/dinov2, interpolate_pos_encoding):
        bicubic, without antialiasing, by the factors (rows + offset) / side and (columns + offset) / side themselves,
        which is not quite a resampling to rows x columns.
        """
        if (rows, columns) == (self.side, self.side):
            return self.pos_embed
        learned = self.pos_embed.float()
        grid = learned[:, 1:].reshape(1, self.side, self.side, self.width).permute(0, 3, 1, 2)
        if self.offset:
            factors = ((rows + self.offset) / self.side, (columns + self.offset) / self.side)
            grid = F.interpolate(grid, scale_factor=factors, mode="bicubic", align_corners=False)
        else:
            grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([learned[:, :1], grid.permute(0, 2, 3, 1).reshape(1, -1, self.width)], dim=1)


class SwiGLU(nn.Module):
    """Feed-forward net with a gate (Shazeer, arXiv 2002.05202), both halves in one layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, value = self.w12(tokens).chunk(2, dim=-1)
        output: Tensor = self.w3(F.silu(gate) * value)
        return output


class _PatchEmbedding(nn.Module):
    def __init__(self, in_chans: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, width, PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """[B, in_chans, H, W] to [B, width, H / 16, W / 16]."""
        height, width = images.shape[2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"an image of {height} x {width} pixels is not made of whole {PATCH} x {PATCH} patches")
        feature: Tensor = self.proj(images)
        return feature


def _norm(width: int, **_: Any) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6)


@register_model
def chexnode_vit_patch16(
    pretrained: bool = False,
    *,
    img_size: int = 512,
    embed_dim: int = 1024,
    depth: int = 24,
    num_heads: int = 16,
    hidden: int = 2736,
    ffn: str = "swiglu",
    in_chans: int = 3,
    reg_tokens: int = 4,
    layer_scale: bool = True,
    mask_token: bool = True,
    interpolate_offset: float = 0.1,
    out_indices: Sequence[int] | None = None,
    pool: str = "cls",
    **timm_arguments: Any,
) -> ViT:
    """By default CheXFound's ViT-L/16 (arXiv 2502.05142): 304,630,016 parameters; by default its last four blocks.

    Raises ValueError for `pretrained` (weights come from a bundle) and for arguments that fit no network.
    """
    refuse_pretrained("chexnode_vit_patch16", pretrained, timm_arguments)
    given = tuple(range(max(0, depth - LAST_BLOCKS), depth)) if out_indices is None else tuple(out_indices)
    if img_size % PATCH or min(img_size, depth, hidden, in_chans) < 1 or reg_tokens < 0:
        raise ValueError(f"size {img_size}, depth {depth}, hidden {hidden} or {in_chans} channels make no transformer")
    if num_heads < 1 or embed_dim % num_heads:
        raise ValueError(f"{num_heads} attention heads do not divide a width of {embed_dim}")
    if list(given) != sorted(set(given)) or not given or given[0] < 0 or given[-1] != depth - 1:
        raise ValueError(f"out_indices {list(given)} do not rise to the last block, {depth - 1}")
    if ffn not in ("mlp", "swiglu") or pool not in ("cls", "mean"):
        raise ValueError(f'ffn {ffn!r} is not "mlp" or "swiglu", or pool {pool!r} is not "cls" or "mean"')
    return ViT(
        img_size=img_size,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        hidden=hidden,
        ffn=ffn,  # type: ignore[arg-type]
        in_chans=in_chans,
        reg_tokens=reg_tokens,
        layer_scale=layer_scale,
        mask_token=mask_token,
        interpolate_offset=interpolate_offset,
        out_indices=given,
        pool=pool,  # type: ignore[arg-type]
    )
