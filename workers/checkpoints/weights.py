"""What every system's reader hands over, and the strict accounting for tensors that they share.

A reader names each tensor of the file: a tensor of the network under its canonical name, or one that its list of
what is left out explains. Anything else is an error.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from schemas.bundle import Architecture
from schemas.errors import BundleMakingError
from workers.checkpoints.reading import Checkpoint, SourceFile
from workers.networks.features import Backbone, create_backbone


@dataclass(frozen=True)
class Omission:
    """Tensors of published files that a bundle does not need."""

    #: Of the whole name, a regular expression.
    pattern: str
    why: str


@dataclass(frozen=True)
class LeftOut:
    """What of one file was left out, for one reason."""

    why: str
    count: int
    #: One of the names.
    example: str


@dataclass(frozen=True)
class BackboneWeights:
    """A backbone as a published file gives it."""

    architecture: Architecture
    #: Every tensor of the backbone's state, float32 on the CPU (integers as they are).
    tensors: dict[str, Tensor] = field(repr=False)
    sources: list[SourceFile]
    left_out: list[LeftOut]


@dataclass(frozen=True)
class HeadWeights:
    """A head that classifies, as a published file gives it."""

    kind: Literal["glori", "linear"]
    #: Arguments of the head's constructor, as the manifest keeps them.
    arguments: dict[str, Any]
    #: K
    classes: int
    #: How many of the backbone's last blocks it reads.
    blocks: int
    tensors: dict[str, Tensor] = field(repr=False)
    sources: list[SourceFile]
    left_out: list[LeftOut]
    #: The head's name in the file; "" when it has none.
    name: str = ""


def sort_out(
    checkpoint: Checkpoint, canonical: Callable[[str], str | None], omissions: Sequence[Omission]
) -> tuple[dict[str, Tensor], list[LeftOut]]:
    """Tensors by canonical name, and what the omissions explain.

    Parameters
    ----------
    canonical : the network's name of a file's tensor; None: not the network's

    Raises BundleMakingError that lists the tensors nobody explains and those that come twice.
    """
    kept: dict[str, Tensor] = {}
    twice, unknown, left = [], [], list[tuple[str, str]]()
    for name, tensor in checkpoint.tensors.items():
        ours = canonical(name)
        if ours is None:
            why = next((each.why for each in omissions if re.fullmatch(each.pattern, name)), None)
            if why is None:
                unknown.append(name)
            else:
                left.append((why, name))
        elif ours in kept:
            twice.append(name)
        else:
            kept[ours] = tensor
    found = {"that nobody knows": unknown, "that come twice under names for the same": twice}
    if problems := _problems(found):
        raise BundleMakingError(f"{checkpoint.source.name} has tensors {problems}.")
    return kept, _counted(left) + beside_the_weights(checkpoint)


def beside_the_weights(checkpoint: Checkpoint) -> list[LeftOut]:
    """Other entries of the file, as something left out."""
    if not checkpoint.beside:
        return []
    return [LeftOut("entries that its training kept beside the weights", len(checkpoint.beside), checkpoint.beside[0])]


def finish_backbone(
    architecture: Architecture, kept: Mapping[str, Tensor], checkpoint: Checkpoint, left_out: list[LeftOut]
) -> BackboneWeights:
    """Hold the tensors against the network that they describe.

    Raises BundleMakingError that lists missing, unknown, misshapen and non-finite tensors.
    """
    try:
        with torch.device("meta"):
            backbone: Backbone = create_backbone(architecture.timm_name, architecture.arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BundleMakingError(f"{checkpoint.source.name} describes no network: {error}") from error
    shapes = {name: tensor.shape for name, tensor in backbone.state_dict().items()}
    tensors = check_tensors(shapes, kept, checkpoint.source.name)
    return BackboneWeights(architecture, tensors, [checkpoint.source], left_out)


def check_tensors(expected: Mapping[str, torch.Size], kept: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """The tensors, floating-point ones as float32, when they are exactly the expected ones.

    Raises BundleMakingError that lists missing, unknown, misshapen and non-finite tensors.
    """
    found = {
        "missing": [name for name in expected if name not in kept],
        "unknown": [name for name in kept if name not in expected],
        "of another shape": [
            f"{name} {list(kept[name].shape)}, not {list(shape)}"
            for name, shape in expected.items()
            if name in kept and kept[name].shape != shape
        ],
        "with values that are not finite": [name for name, tensor in kept.items() if not tensor.isfinite().all()],
    }
    if problems := _problems(found):
        raise BundleMakingError(f"{file} does not hold the network that its shapes speak of. Tensors {problems}.")
    return {name: _own(tensor.float() if tensor.is_floating_point() else tensor) for name, tensor in kept.items()}


def tensor_shape(kept: Mapping[str, Tensor], name: str, dimensions: int, file: str) -> tuple[int, ...]:
    """Shape of a tensor from which the network's size is read.

    Raises BundleMakingError when it is not there or has other dimensions.
    """
    if name not in kept:
        raise BundleMakingError(f"{file} holds no such network: the tensor {name} is missing.")
    shape = tuple(kept[name].shape)
    if len(shape) != dimensions:
        raise BundleMakingError(
            f"{file}: the tensor {name} has the shape {list(shape)}, but needs {dimensions} dimensions."
        )
    return shape


def _own(tensor: Tensor) -> Tensor:
    """With memory of its own: safetensors stores no views of a common one."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor


def _problems(found: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{what}: {', '.join(sorted(names))}" for what, names in found.items() if names)


def _counted(left: list[tuple[str, str]]) -> list[LeftOut]:
    reasons = dict.fromkeys(why for why, _ in left)
    names = {reason: [name for why, name in left if why == reason] for reason in reasons}
    return [LeftOut(reason, len(each), each[0]) for reason, each in names.items()]
