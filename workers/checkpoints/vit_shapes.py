"""Reads a vision transformer's size off its tensors' shapes. Called by chexfound.py, mae.py and gmml.py."""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from schemas.bundle import Architecture
from schemas.errors import BundleMakingError
from workers.checkpoints.weights import tensor_shape
from workers.networks.vit import PATCH

#: Canonical names of the backbone's tensors.
VIT_TENSOR = re.compile(
    r"cls_token|pos_embed|register_tokens|mask_token|(patch_embed\.proj|norm)\.(weight|bias)"
    r"|blocks\.\d+\.((norm[12]|attn\.(qkv|proj)|mlp\.(w12|w3|fc1|fc2))\.(weight|bias)|ls[12]\.gamma)"
)

#: Channels of one attention head in every published ViT-Ti, S, B and L; shapes do not tell it.
_HEAD_DIM = 64
#: Blocks of those by their width; so that a file without its last block is known to lack it.
_USUAL_DEPTHS = {192: 12, 384: 12, 768: 12, 1024: 24}


def heads_are_usual(kept: Mapping[str, Tensor]) -> bool:
    """Whether the width is one of the published networks', which tells the number of attention heads."""
    return "cls_token" in kept and kept["cls_token"].shape[-1] in _USUAL_DEPTHS


def vit_architecture(
    kept: Mapping[str, Tensor],
    file: str,
    *,
    heads: int | None = None,
    depth: int | None = None,
    reg_tokens: int = 0,
    layer_scale: bool = False,
    mask_token: bool = False,
    interpolate_offset: float = 0.0,
    out_indices: list[int] | None = None,
    pool: str = "cls",
) -> Architecture:
    """The `chexnode_vit_patch16` whose tensors these are; what shapes do not tell is given.

    Parameters
    ----------
    heads : attention heads; None: 64 channels each, where that is how all published networks of the width are
    depth : blocks; None: as many as published networks of the width have, or as there are
    out_indices : blocks for the heads; None: the last four

    Raises BundleMakingError when tensors that tell the size are missing or contradict each other.
    """
    width, channels, *patch = tensor_shape(kept, "patch_embed.proj.weight", 4, file)
    if patch != [PATCH, PATCH]:
        raise BundleMakingError(f"{file} has patches of {patch[0]} x {patch[1]} pixels, not {PATCH} x {PATCH}.")
    positions = tensor_shape(kept, "pos_embed", 3, file)[1]
    side = math.isqrt(max(positions - 1, 0))
    if side < 1 or side * side != positions - 1:
        raise BundleMakingError(f"{file}: pos_embed has {positions} positions, which are not one and a square.")
    swiglu = not any(re.fullmatch(r"blocks\.\d+\.mlp\.fc[12]\.weight", name) for name in kept)
    hidden = tensor_shape(kept, "blocks.0.mlp.w3.weight" if swiglu else "blocks.0.mlp.fc2.weight", 2, file)[1]
    blocks = {int(found[1]) for name in kept if (found := re.match(r"blocks\.(\d+)\.", name))}
    if heads is None:
        if width not in _USUAL_DEPTHS:
            raise BundleMakingError(
                f"{file} has a width of {width}, from which nobody can tell the number of attention heads. "
                "Give the configuration that names it (--config with student.num_heads), or --attention-heads."
            )
        heads = width // _HEAD_DIM
    depth = depth or _USUAL_DEPTHS.get(width, max(blocks) + 1)
    return Architecture(
        timm_name="chexnode_vit_patch16",
        arguments={
            "img_size": side * PATCH,
            "embed_dim": width,
            "depth": depth,
            "num_heads": heads,
            "hidden": hidden,
            "ffn": "swiglu" if swiglu else "mlp",
            "in_chans": channels,
            "reg_tokens": reg_tokens,
            "layer_scale": layer_scale,
            "mask_token": mask_token,
            "interpolate_offset": interpolate_offset,
            "out_indices": list(range(max(0, depth - 4), depth)) if out_indices is None else out_indices,
            "pool": pool,
        },
    )
