"""CheXFound's published files (Yang et al., arXiv 2502.05142): backbone in four layouts, GLoRI heads.

Called by import_command.py. Layouts: {"teacher": backbone.blocks.CHUNK.BLOCK...} (Google Drive), {"model": student.*,
teacher.*} (between stages of its training), `model.` and `ls*.weight` (Hugging Face), and flat names.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schemas.errors import BundleMakingError
from workers.checkpoints.chexfound_config import ChexfoundConfig, read_config
from workers.checkpoints.reading import Checkpoint, ReadProgress, read_checkpoint, source_file
from workers.checkpoints.vit_shapes import VIT_TENSOR, heads_are_usual, vit_architecture
from workers.checkpoints.weights import (
    BackboneWeights,
    HeadWeights,
    LeftOut,
    Omission,
    beside_the_weights,
    check_tensors,
    finish_backbone,
    sort_out,
    tensor_shape,
)
from workers.networks.glori import GLoRI

#: Attention heads of the published decoder; shapes do not tell them.
_GLORI_HEADS = 8
#: DINOv2 resamples positions by (n + 0.1) / side.
_INTERPOLATE_OFFSET = 0.1
_CONFIG = "config.yaml"
_BESIDE = ("optimizer", "scheduler", "iteration", "epoch")

_OMISSIONS = (
    Omission(
        r"(module\.)?(teacher\.)?(dino_head|ibot_head)\."
        r"(mlp\.\d+\.(weight|bias)|last_layer\.(weight|weight_g|weight_v|parametrizations\.weight\.original[01]))",
        "heads of the pre-training",
    ),
    Omission(r"(module\.)?student\.(backbone|dino_head|ibot_head)\..+", "the student; the teacher is what is used"),
    Omission(r"(module\.)?(dino_loss|ibot_patch_loss)\.center", "centres of the pre-training's losses"),
)
_PREFIX = re.compile(r"(module\.)?(model\.|teacher\.)?(backbone\.)?")
_CHUNKED = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)")
_GRID = re.compile(r"(?:module\.)?classifiers_dict\.([^.]+)\.(decoder\..+)")
_BARE_HEAD = re.compile(r"(?:module\.)?()(decoder\..+)")


def read_backbone(
    path: Path, config: ChexfoundConfig | None, heads: int | None, progress: ReadProgress
) -> BackboneWeights:
    """The backbone of any of the four layouts; `heads` are its attention heads where neither shapes nor config tell.

    Where nothing tells them, a config.yaml beside the file is read, as both lie in the published folder.

    Raises BundleMakingError that lists tensors which are missing, unknown, misshapen, not finite or in a wrong chunk,
    and for a `config` that contradicts the shapes.
    """
    checkpoint = read_checkpoint(path, ("teacher", "model", "state_dict"), _BESIDE, progress)
    _check_chunks(checkpoint)
    kept, left_out = sort_out(checkpoint, _canonical, _OMISSIONS)
    if config is None and heads is None and not heads_are_usual(kept) and path.with_name(_CONFIG).is_file():
        config = read_config(path.with_name(_CONFIG))
    registers = tensor_shape(kept, "register_tokens", 3, path.name)[1] if "register_tokens" in kept else 0
    if not registers and (config is None or config.registers != 0):
        raise BundleMakingError(f"{path.name} does not hold CheXFound's backbone. Tensors missing: register_tokens.")
    architecture = vit_architecture(
        kept,
        path.name,
        heads=heads or (config.heads if config else None),
        depth=config.depth if config else None,
        reg_tokens=registers,
        layer_scale=True,
        mask_token=True,
        interpolate_offset=_INTERPOLATE_OFFSET if config is None else config.interpolate_offset,
    )
    if config is not None:
        if heads and config.heads and heads != config.heads:
            raise BundleMakingError(f"{config.source.name} says num_heads {config.heads}, --attention-heads {heads}.")
        config.check(architecture, path.name)
    weights = finish_backbone(architecture, kept, checkpoint, left_out)
    return replace(weights, sources=[*weights.sources, config.source]) if config else weights


def read_head(
    path: Path, backbone: BackboneWeights, name: str | None, results: Path | None, progress: ReadProgress
) -> HeadWeights:
    """One GLoRI head for a backbone; of a file with several, the one that `name` or `results` names.

    Parameters
    ----------
    name : name of the head in the file
    results : results_eval_linear.json, which names the head that did best on validation data

    Raises BundleMakingError that lists the heads when none is chosen, and tensors that are missing, unknown or
    misshapen.
    """
    checkpoint = read_checkpoint(path, ("model",), _BESIDE, progress)
    heads: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for tensor_name, tensor in checkpoint.tensors.items():
        found = _GRID.fullmatch(tensor_name) or _BARE_HEAD.fullmatch(tensor_name)
        if found is None:
            unknown.append(tensor_name)
        else:
            heads.setdefault(found[1], {})[found[2]] = tensor
    if unknown or not heads:
        raise BundleMakingError(
            f"{path.name} holds no GLoRI heads alone. Tensors that nobody knows: {', '.join(unknown)}."
        )
    chosen = _choose(path.name, heads, name, results)
    kept = heads.pop(chosen)
    arguments, classes, blocks = _glori_size(kept, backbone, f"{path.name}, head {chosen}")
    with torch.device("meta"):
        glori = GLoRI(blocks * _width(backbone), classes, **arguments)
    shapes = {tensor_name: tensor.shape for tensor_name, tensor in glori.state_dict().items()}
    tensors = check_tensors(shapes, kept, f"{path.name}, head {chosen}")
    left_out = beside_the_weights(checkpoint)
    if heads:
        others = sum(len(each) for each in heads.values())
        left_out.append(LeftOut("other heads of the learning-rate grid", others, next(iter(heads))))
    sources = [checkpoint.source, *([source_file(results)] if results else [])]
    return HeadWeights("glori", arguments, classes, blocks, tensors, sources, left_out, chosen)


def best_head(results: Path) -> str:
    """`best_classifier.name` of results_eval_linear.json: JSON documents with headings in between; the last one counts.

    Raises BundleMakingError when it names none.
    """
    try:
        text = results.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleMakingError(f"{results} cannot be read: {error}.") from error
    names, decoder, at = [], json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            document, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            at += 1
        else:
            best = document.get("best_classifier") if isinstance(document, dict) else None
            if isinstance(best, dict) and isinstance(best.get("name"), str):
                names.append(best["name"])
        at = text.find("{", at)
    if not names:
        raise BundleMakingError(f"{results} names no best_classifier. Choose the head with --head-name.")
    return str(names[-1])


def _canonical(name: str) -> str | None:
    if name.removeprefix("module.").startswith("student."):
        return None
    bare = _PREFIX.sub("", name, count=1)
    bare = _CHUNKED.sub(r"blocks.\2.\3", bare)
    bare = re.sub(r"\.(ls[12])\.weight$", r".\1.gamma", bare)
    return bare if VIT_TENSOR.fullmatch(bare) else None


def _check_chunks(checkpoint: Checkpoint) -> None:
    """DINOv2 numbers blocks through, and chunk c holds those from c * n on; n is what fits the most of them."""
    placed = {}
    for name in checkpoint.tensors:
        if _canonical(name) and (found := _CHUNKED.search(name)):
            placed[name] = int(found[1]), int(found[2])
    if not placed:
        return
    sizes = range(1, 2 + max(block for _, block in placed.values()))
    wrong = min(([name for name, (c, block) in placed.items() if c != block // n] for n in sizes), key=len)
    if wrong:
        raise BundleMakingError(f"{checkpoint.source.name} has blocks in a wrong chunk: {', '.join(sorted(wrong))}.")


def _choose(file: str, heads: Mapping[str, Any], name: str | None, results: Path | None) -> str:
    wanted = name
    if results is not None:
        wanted = best_head(results)
        if name is not None and name != wanted:
            raise BundleMakingError(f"--head-name says {name}, {results} says {wanted}: give one of them.")
    listed = "\n  ".join(sorted(heads))
    if wanted is None:
        if len(heads) > 1:
            raise BundleMakingError(
                f"{file} holds {len(heads)} heads. Say which with --head-results results_eval_linear.json, which names "
                f"the best one, or with --head-name:\n  {listed}"
            )
        return next(iter(heads))
    if wanted not in heads:
        raise BundleMakingError(f"{file} has no head {wanted}. It holds:\n  {listed}")
    return wanted


def _glori_size(kept: Mapping[str, Tensor], backbone: BackboneWeights, file: str) -> tuple[dict[str, Any], int, int]:
    """Arguments, number of classes and of the backbone's blocks that a head reads."""
    width, features = tensor_shape(kept, "decoder.embed_standart.weight", 2, file)
    classes = tensor_shape(kept, "decoder.query_embed.weight", 2, file)[0]
    pooled = tensor_shape(kept, "decoder.duplicate_pooling", 3, file)[1]
    hidden = tensor_shape(kept, "decoder.layers.0.linear1.weight", 2, file)[0]
    blocks, rest = divmod(features, _width(backbone))
    if rest or not 1 <= blocks <= backbone.architecture.arguments["depth"]:
        raise BundleMakingError(
            f"{file} reads {features} channels, which are not whole blocks of this backbone's {_width(backbone)}: "
            "head and backbone do not belong together."
        )
    if pooled not in (width, width + features):
        raise BundleMakingError(
            f"{file}: decoder.duplicate_pooling has {pooled} rows, not {width} or {width + features}."
        )
    if width % _GLORI_HEADS:
        raise BundleMakingError(f"{file} has a width of {width}, which {_GLORI_HEADS} attention heads do not divide.")
    arguments = {"width": width, "heads": _GLORI_HEADS, "hidden": hidden, "cat_cls": pooled != width}
    return arguments, classes, blocks


def _width(backbone: BackboneWeights) -> int:
    return int(backbone.architecture.arguments["embed_dim"])
