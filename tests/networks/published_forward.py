"""The published forward passes as equations on plain tensors, written from the papers; what our modules are held to.

No module of torch.nn and none of ours: layer norms, attention and the resampling of positions are spelled out.
"""

from typing import NamedTuple

import torch
from torch import Tensor

Weights = dict[str, Tensor]


class Tokens(NamedTuple):
    """Of the last blocks through the final norm, the last one last."""

    patches: list[Tensor]
    cls: list[Tensor]


def vit_tokens(weights: Weights, images: Tensor, heads: int, blocks: int = 4, offset: float = 0.1) -> Tokens:
    """DINOv2's transformer with registers, SwiGLU and LayerScale. `images` [B, C, H, W], patches of 16."""
    batch, channels, height, width = images.shape
    rows, columns = height // 16, width // 16
    # Unfold into patches: the convolution of kernel = stride = 16 as a matrix.
    cells = images.reshape(batch, channels, rows, 16, columns, 16).permute(0, 2, 4, 1, 3, 5)
    kernel = weights["patch_embed.proj.weight"]
    tokens = cells.reshape(batch, rows * columns, -1) @ kernel.reshape(len(kernel), -1).T
    tokens = tokens + weights["patch_embed.proj.bias"]
    tokens = torch.cat([weights["cls_token"].expand(batch, -1, -1), tokens], dim=1)
    tokens = tokens + positions(weights["pos_embed"], rows, columns, offset)
    registers = weights["register_tokens"]
    tokens = torch.cat([tokens[:, :1], registers.expand(batch, -1, -1), tokens[:, 1:]], dim=1)
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    outputs = []
    for index in range(depth):
        block = {
            name.removeprefix(f"blocks.{index}."): value
            for name, value in weights.items()
            if name.startswith(f"blocks.{index}.")
        }
        tokens = tokens + block["ls1.gamma"] * _self_attention(block, _norm(block, "norm1", tokens), heads)
        both = _linear(block, "mlp.w12", _norm(block, "norm2", tokens))
        gate, value = both[..., : both.shape[-1] // 2], both[..., both.shape[-1] // 2 :]
        tokens = tokens + block["ls2.gamma"] * _linear(block, "mlp.w3", gate * torch.sigmoid(gate) * value)
        outputs.append(_norm(weights, "norm", tokens))
    first = 1 + registers.shape[1]
    return Tokens([each[:, first:] for each in outputs[-blocks:]], [each[:, 0] for each in outputs[-blocks:]])


def positions(learned: Tensor, rows: int, columns: int, offset: float) -> Tensor:
    """[1, 1 + rows * columns, D]: as learned on the square, or by cubic convolution with factor (n + offset) / side."""
    side = round((learned.shape[1] - 1) ** 0.5)
    if rows == columns == side:
        return learned
    grid = learned[0, 1:].reshape(side, side, -1)
    down = _cubic_matrix(side, rows, (rows + offset) / side)
    across = _cubic_matrix(side, columns, (columns + offset) / side)
    resampled = torch.einsum("rs,std,ct->rcd", down, grid, across)
    return torch.cat([learned[0, :1], resampled.reshape(rows * columns, -1)])[None]


def glori(weights: Weights, tokens: Tokens, heads: int = 8) -> tuple[Tensor, Tensor]:
    """(logits [B, K], attention [B, heads, K, N]) of the decoder of arXiv 2502.05142 version 1."""
    weights = {name.removeprefix("decoder."): value for name, value in weights.items()}
    memory = _linear(weights, "embed_standart", torch.cat(tokens.patches, dim=2)).clamp(min=0)
    layer = {name.removeprefix("layers.0."): value for name, value in weights.items() if name.startswith("layers.0.")}
    queries = _norm(layer, "norm1", 2 * weights["query_embed.weight"], eps=1e-5).expand(len(memory), -1, -1)
    into_q, into_k, into_v = layer["multihead_attn.in_proj_weight"].chunk(3)
    bias_q, bias_k, bias_v = layer["multihead_attn.in_proj_bias"].chunk(3)
    query, key, value = (
        _heads(each, heads)
        for each in (queries @ into_q.T + bias_q, memory @ into_k.T + bias_k, memory @ into_v.T + bias_v)
    )
    attention = torch.softmax(query @ key.transpose(2, 3) / query.shape[3] ** 0.5, dim=3)
    attended = _linear(layer, "multihead_attn.out_proj", (attention @ value).transpose(1, 2).flatten(2))
    hidden = _norm(layer, "norm2", queries + attended, eps=1e-5)
    expanded = _linear(layer, "linear2", _linear(layer, "linear1", hidden).clamp(min=0))
    hidden = _norm(layer, "norm3", hidden + expanded, eps=1e-5)
    pooling = weights["duplicate_pooling"][:, :, 0]
    if pooling.shape[1] > hidden.shape[2]:
        cls = torch.cat(tokens.cls, dim=1)[:, None].expand(-1, hidden.shape[1], -1)
        hidden = torch.cat([cls, hidden], dim=2)
    return torch.einsum("bkd,kd->bk", hidden, pooling) + weights["duplicate_pooling_bias"], attention


def _cubic_matrix(size: int, count: int, factor: float) -> Tensor:
    """[count, size]: cubic convolution (Keys, 1981) with a = -0.75, borders repeated, pixel centres at halves."""
    matrix = torch.zeros(count, size, dtype=torch.float64)
    for target in range(count):
        at = (target + 0.5) / factor - 0.5
        first = int(at // 1)
        for tap in range(first - 1, first + 3):
            distance = abs(at - tap)
            if distance <= 1:
                weight = 1.25 * distance**3 - 2.25 * distance**2 + 1
            else:
                weight = -0.75 * (distance**3 - 5 * distance**2 + 8 * distance - 4)
            matrix[target, min(max(tap, 0), size - 1)] += weight
    return matrix.float()


def _self_attention(block: Weights, tokens: Tensor, heads: int) -> Tensor:
    query, key, value = (_heads(each, heads) for each in _linear(block, "attn.qkv", tokens).chunk(3, dim=2))
    weights = torch.softmax(query @ key.transpose(2, 3) / query.shape[3] ** 0.5, dim=3)
    return _linear(block, "attn.proj", (weights @ value).transpose(1, 2).flatten(2))


def _heads(tokens: Tensor, heads: int) -> Tensor:
    """[B, L, D] to [B, heads, L, D / heads]."""
    return tokens.reshape(*tokens.shape[:2], heads, -1).transpose(1, 2)


def _linear(weights: Weights, name: str, values: Tensor) -> Tensor:
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _norm(weights: Weights, name: str, values: Tensor, eps: float = 1e-6) -> Tensor:
    centred = values - values.mean(dim=-1, keepdim=True)
    variance = (centred**2).mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]
