"""Parameter groups: which weights decay, and which learn more slowly. Used by pre-training and by fine-tuning."""

import re
from typing import Any

from torch import nn


def parameter_groups(
    module: nn.Module, weight_decay: float, *, patch_embedding: float = 1.0, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer; vectors (biases, norms, scales) do not decay.

    Each says of itself `rate_factor`, of the rate, and `decays`, for whoever changes rate and decay with the step.

    Parameters
    ----------
    patch_embedding : factor of the patch embedding's rate (DINOv2: 0.2)
    layer_decay : factor of each transformer block's rate over that of the next one (BEiT, arXiv 2106.08254)
    """
    named = [(name, each) for name, each in module.named_parameters() if each.requires_grad]
    depth = 1 + max((_block(name) for name, _ in named), default=0)
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    for name, parameter in named:
        factor = layer_decay ** (depth - _layer(name, depth))
        if "patch_embed" in name:
            factor *= patch_embedding
        decays = parameter.ndim > 1
        fresh = {"params": [], "weight_decay": decays * weight_decay, "rate_factor": factor, "decays": decays}
        group = groups.setdefault((decays, factor), fresh)
        group["params"].append(parameter)
    return list(groups.values())


def _block(name: str) -> int:
    found = re.search(r"(?:^|\.)blocks\.(\d+)\.", name)
    return int(found[1]) + 1 if found else 0


def _layer(name: str, depth: int) -> int:
    """0 for what stands before the blocks, 1 ... for the blocks, `depth` for what stands behind them."""
    if block := _block(name):
        return block
    first = ("cls_token", "pos_embed", "register_tokens", "mask_token", "patch_embed")
    return 0 if any(part in name for part in first) else depth
