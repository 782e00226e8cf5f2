"""The networks that are pre-trained, as the methods use them: masked, thinned out, with stochastic depth.

The networks are those of workers/networks, so what is learned is what a bundle holds. Called by the methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from schemas.bundle import Architecture
from schemas.errors import SettingsError
from workers.networks import network
from workers.networks.features import Backbone, create_backbone
from workers.networks.vit import ViT

# Registers the backbones with timm.
assert network


@dataclass(frozen=True)
class Tokens:
    """What a vision transformer makes of B images; N patches, or those that were kept."""

    #: [B, width] and [B, N, width], through the final norm.
    cls: Tensor
    patches: Tensor
    #: Patch tokens of the blocks that were asked for, before the norm: each [B, N, width].
    inner: list[Tensor] = field(default_factory=list)


def create_encoder(architecture: Architecture, side: int) -> Backbone:
    """The backbone with fresh weights for images of `side` pixels. Raises SettingsError for one there is not."""
    at = architecture_at(architecture, side)
    try:
        return create_backbone(at.timm_name, at.arguments)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"The recipe's backbone {architecture.timm_name} cannot be made: {error}.") from error


def architecture_at(architecture: Architecture, side: int) -> Architecture:
    """The same for images of `side` pixels: of transformers, which have positions, it is an argument."""
    if "vit" not in architecture.timm_name:
        return architecture
    return architecture.model_copy(update={"arguments": {**architecture.arguments, "img_size": side}})


def create_vit(architecture: Architecture, side: int) -> ViT:
    """The same for methods that mask patches; linear layers drawn as DINOv2 draws them (normal, 0.02, cut at 2)."""
    vit = create_encoder(architecture, side)
    if not isinstance(vit, ViT):
        raise SettingsError(f"The method masks patches and needs chexnode_vit_patch16, not {architecture.timm_name}.")
    for module in vit.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return vit


def set_drop_path(vit: ViT, rate: float, *, rising: bool) -> None:
    """Stochastic depth (Huang et al., arXiv 1603.09382) of `rate` in every block, or rising to it from 0."""
    last = max(1, len(vit.blocks) - 1)
    for index, block in enumerate(vit.blocks):
        mine = rate * index / last if rising else rate
        for name in ("drop_path1", "drop_path2"):
            setattr(block, name, DropPath(mine) if mine else nn.Identity())


def encode(
    vit: ViT, images: Tensor, *, masked: Tensor | None = None, kept: Tensor | None = None, inner: Sequence[int] = ()
) -> Tokens:
    """The tokens of images float32 [B, channels, H, W], normalised.

    Parameters
    ----------
    masked : bool [B, N], patches that are replaced by the mask token before they get their position
    kept : int64 [B, K], patches that are computed at all
    inner : blocks whose patch tokens are wanted
    """
    feature = vit.patch_embed(images)
    rows, columns = feature.shape[2:]
    patches = feature.flatten(2).transpose(1, 2)
    if masked is not None:
        assert vit.mask_token is not None
        patches = torch.where(masked[:, :, None], vit.mask_token.to(patches.dtype), patches)
    positions = vit.positions(rows, columns).to(patches.dtype)
    patches = patches + positions[:, 1:]
    if kept is not None:
        patches = patches.gather(1, kept[:, :, None].expand(-1, -1, patches.shape[2]))
    prefix = [(vit.cls_token.to(patches.dtype) + positions[:, :1]).expand(len(images), -1, -1)]
    if vit.register_tokens is not None:
        prefix.append(vit.register_tokens.to(patches.dtype).expand(len(images), -1, -1))
    tokens = torch.cat([*prefix, patches], dim=1)
    wanted = []
    for index, block in enumerate(vit.blocks):
        tokens = block(tokens)
        if index in inner:
            wanted.append(tokens[:, vit.prefix :])
    normed = vit.norm(tokens)
    return Tokens(normed[:, 0], normed[:, vit.prefix :], wanted)
