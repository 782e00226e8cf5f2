"""What a method has learned, under the names and in the entries that published files have. Called by export.py.

The other way round is workers/checkpoints, which reads such files. Pure functions.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

#: Parts that DINOv2 cuts its blocks into (block_chunks).
_CHUNKS = 4


def chexfound_drive(method: Mapping[str, Tensor]) -> dict[str, Any]:
    """teacher_checkpoint.pth: {"teacher": backbone.blocks.CHUNK.BLOCK..., heads} of dinov2."""
    teacher = _below("teacher.", method)
    depth = 1 + max(int(found[1]) for name in teacher if (found := re.match(r"backbone\.blocks\.(\d+)\.", name)))
    size = -(-depth // _CHUNKS)

    def name_of(name: str) -> str:
        chunked = re.sub(
            r"^backbone\.blocks\.(\d+)\.", lambda at: f"backbone.blocks.{int(at[1]) // size}.{at[1]}.", name
        )
        return re.sub(r"^(dino_head|ibot_head)\.layers\.", r"\1.mlp.", chunked)

    return {"teacher": {name_of(name): tensor for name, tensor in teacher.items()}}


def chexfound_hugging_face(method: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """model.safetensors: model.NAME with ls*.weight for ls*.gamma, the backbone of dinov2 alone."""
    backbone = _below("teacher.backbone.", method)
    return {"model." + re.sub(r"\.(ls[12])\.gamma$", r".\1.weight", name): each for name, each in backbone.items()}


def mae(method: Mapping[str, Tensor]) -> dict[str, Any]:
    """{"model": encoder, decoder_* and mask_token}."""
    model = _below("encoder.", method)
    for name, tensor in _below("decoder.", method).items():
        model[name if name == "mask_token" else f"decoder_{name}"] = tensor
    model |= {name: each for name, each in method.items() if re.match(r"decoder_(embed|pred)\.", name)}
    return {"model": model}


def gmml(method: Mapping[str, Tensor]) -> dict[str, Any]:
    """{"SiT_model": module.backbone.*, module.head_recons.*}."""
    return {"SiT_model": {f"module.{name}": tensor for name, tensor in method.items()}}


def sit(method: Mapping[str, Tensor]) -> dict[str, Any]:
    """{"student": ..., "teacher": ...} of module.backbone.*, module.head.* and module.head_recons.*."""
    return {
        branch: {f"module.{name}": tensor for name, tensor in _below(f"{branch}.", method).items()}
        for branch in ("student", "teacher")
    }


def moco(method: Mapping[str, Tensor]) -> dict[str, Any]:
    """{"state_dict": module.encoder_q.*, module.encoder_k.*, module.queue [width, K], module.queue_ptr}."""
    state = {}
    for encoder in ("encoder_q", "encoder_k"):
        for name, tensor in _below(f"{encoder}.", method).items():
            state[f"module.{encoder}.{name.removeprefix('backbone.')}"] = tensor
    state["module.queue"] = method["contrast.memory_bank.bank"].T.contiguous()
    state["module.queue_ptr"] = method["contrast.memory_bank.bank_ptr"].to(torch.long)
    return {"state_dict": state}


def _below(prefix: str, method: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in method.items() if name.startswith(prefix)}
