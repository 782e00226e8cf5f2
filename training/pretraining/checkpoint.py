"""What a pre-training keeps of itself: whole states in one file, replaced in one step. Called by trainer.py.

States are gathered from all processes and given out to all of them again, whatever their number.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from node.storage.durable import sync_folder
from schemas.errors import SettingsError
from training.learning.loop import CurvePoint
from training.pretraining.parallel import Processes

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(frozen=True)
class Trained:
    """A stage that is done."""

    #: The recipe, as JSON.
    recipe: str
    stage: str
    #: Every tensor of the method, on the CPU.
    method: dict[str, Tensor]


def keep(
    path: Path,
    identity: str,
    step: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    curve: list[CurvePoint],
    among: Processes,
) -> None:
    """Keep all that is needed to go on with `step`. Every process calls it; the first one writes."""
    state = {
        "identity": identity,
        "step": step,
        "method": get_model_state_dict(network, options=_WHOLE),
        "optimizer": get_optimizer_state_dict(network, optimizer, options=_WHOLE),
        "curve": [(point.step, point.losses) for point in curve],
    }
    if among.is_first:
        _write(state, path)


def go_on(
    path: Path, identity: str, network: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, list[CurvePoint]]:
    """Restore what was kept: the next step, and the curve up to it.

    Raises SettingsError when it was kept by another recipe.
    """
    state = _read(path)
    if state["identity"] != identity:
        raise SettingsError(
            f"{path} was made by another recipe or another number of images. Give this training a folder of its own "
            "(--out), or delete that one."
        )
    set_model_state_dict(network, state["method"], options=StateDictOptions(full_state_dict=True))
    set_optimizer_state_dict(network, optimizer, state["optimizer"], options=StateDictOptions(full_state_dict=True))
    return int(state["step"]), [CurvePoint(step, losses) for step, losses in state["curve"]]


def write_trained(path: Path, recipe: str, stage: str, network: nn.Module, among: Processes) -> None:
    """Keep what a stage has learned, without what only its training needed."""
    method = get_model_state_dict(network, options=_WHOLE)
    if among.is_first:
        _write({"recipe": recipe, "stage": stage, "method": method}, path)


def read_trained(path: Path) -> Trained:
    """Raises SettingsError when there is none."""
    state = _read(path)
    try:
        return Trained(state["recipe"], state["stage"], state["method"])
    except KeyError as error:
        raise SettingsError(f"{path} is not what chexnode train pretrain keeps (no {error}).") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read ({type(error).__name__}); start the training anew.") from error
    if not isinstance(state, dict):
        raise SettingsError(f"{path} is not what chexnode train pretrain keeps.")
    return state


def _write(state: dict[str, Any], path: Path) -> None:
    """Beside it, to the disk, then by its name: a kill or a full disk at any time leaves the one before."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    sync_folder(path.parent)
