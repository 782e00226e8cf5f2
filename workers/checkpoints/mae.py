"""Files of masked autoencoders (He et al., arXiv 2111.06377), pre-trained or fine-tuned, for example CXRBase-style.

Called by import_command.py. Layout {"model": ...} or bare names: with or without the decoder; fine-tuned with a
linear head on the class token (`norm`) or on the patches' mean (`fc_norm`).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import BundleMakingError
from workers.checkpoints.reading import ReadProgress, read_checkpoint
from workers.checkpoints.vit_shapes import VIT_TENSOR, vit_architecture
from workers.checkpoints.weights import (
    BackboneWeights,
    HeadWeights,
    Omission,
    check_tensors,
    finish_backbone,
    sort_out,
    tensor_shape,
)

_OMISSIONS = (
    Omission(
        r"(module\.)?(mask_token|decoder_pos_embed|decoder_(embed|norm|pred)\.(weight|bias)"
        r"|decoder_blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12])\.(weight|bias))",
        "decoder of the pre-training",
    ),
)
_BESIDE = ("optimizer", "epoch", "scaler", "args")


@dataclass(frozen=True)
class MaeWeights:
    """A masked autoencoder's encoder and, when it was fine-tuned, its linear head."""

    backbone: BackboneWeights
    head: HeadWeights | None


def read_mae(path: Path, heads: int | None, progress: ReadProgress) -> MaeWeights:
    """Encoder and linear head of any of the layouts; `heads` are its attention heads where shapes do not tell.

    Raises BundleMakingError that lists tensors missing, unknown, misshapen or not finite.
    """
    checkpoint = read_checkpoint(path, ("model",), _BESIDE, progress)
    kept, left_out = sort_out(checkpoint, _canonical, _OMISSIONS)
    head = {name: kept.pop(name) for name in list(kept) if name.startswith("linear.")}
    pooled = [name for name in checkpoint.tensors if name.removeprefix("module.").startswith("fc_norm.")]
    architecture = vit_architecture(kept, path.name, heads=heads, pool="mean" if pooled else "cls")
    backbone = finish_backbone(architecture, kept, checkpoint, left_out)
    if not head:
        return MaeWeights(backbone, None)
    classes, width = tensor_shape(head, "linear.weight", 2, path.name)
    if width != architecture.arguments["embed_dim"]:
        raise BundleMakingError(
            f"{path.name}: head.weight reads {width} channels, which are not those of one class token."
        )
    tensors = check_tensors(
        {"linear.weight": head["linear.weight"].shape, "linear.bias": head["linear.weight"].shape[:1]}, head, path.name
    )
    linear = HeadWeights("linear", {"blocks": 1}, classes, 1, tensors, [], [])
    return MaeWeights(backbone, linear)


def _canonical(name: str) -> str | None:
    bare = name.removeprefix("module.")
    if bare in ("head.weight", "head.bias"):
        return bare.replace("head.", "linear.")
    bare = re.sub(r"^fc_norm\.", "norm.", bare)
    # The mask token is as wide as the decoder, to which it belongs.
    return bare if bare != "mask_token" and VIT_TENSOR.fullmatch(bare) else None
