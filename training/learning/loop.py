"""The training loop: AdamW, cosine schedule, bf16 autocast, bounded in steps; killed and called again it goes on.

Each step's randomness follows from seed and step alone, so that a training that was interrupted gives the very
weights of one that was not. Called by training/learning/looks.py.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor, nn

from schemas.errors import SettingsError

_REPORT_EVERY = 20
_CLIPPED_AT = 1.0


@dataclass(frozen=True)
class LearningSettings:
    """Everything but data and network that decides the weights."""

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.05
    warm_up_steps: int = 60
    seed: int = 0
    #: So often it is kept how far the training is.
    checkpoint_every: int = 100


@dataclass(frozen=True)
class CurvePoint:
    """The parts of the loss at one step."""

    step: int
    losses: dict[str, float]


def learn(
    learned: nn.Module,
    losses_from: Callable[[int], Iterator[Callable[[torch.Generator], dict[str, Tensor]]]],
    settings: LearningSettings,
    progress: Progress,
    title: str,
    checkpoint: Path | None,
) -> list[CurvePoint]:
    """Train `learned` in place; the parts of the loss at each step.

    Parameters
    ----------
    losses_from : for a first step, gives for it and each later step what computes the parts of its loss
    checkpoint : where the state is kept; None: nowhere. Training goes on from it when it exists.

    Raises
    ------
    FloatingPointError : the loss is not finite
    SettingsError : the checkpoint was made with other settings
    """
    optimizer = torch.optim.AdamW(_parameter_groups(learned, settings.weight_decay), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    curve: list[CurvePoint] = []
    if checkpoint is not None and checkpoint.exists():
        curve = _restored(checkpoint, learned, optimizer, schedule, settings)
    first = len(curve)
    task = progress.add_task(title, total=settings.steps, completed=first)
    for step, losses_of in zip(range(first, settings.steps), losses_from(first), strict=False):
        # Dropout draws from the global generator, augmentation from its own.
        torch.manual_seed(settings.seed * 1_000_003 + step)
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        losses = losses_of(generator)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"{title}: the loss is {loss.item()} at step {step}.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned.parameters(), _CLIPPED_AT)
        optimizer.step()
        schedule.step()
        curve.append(CurvePoint(step, {name: float(part.detach()) for name, part in losses.items()}))
        progress.advance(task)
        last = step == settings.steps - 1
        if step % _REPORT_EVERY == 0 or last:
            parts = "  ".join(f"{name} {value:.3f}" for name, value in curve[-1].losses.items())
            progress.console.print(f"{title} step {step:4d}  {parts}")
        if checkpoint is not None and ((step + 1) % settings.checkpoint_every == 0 or last):
            _keep(checkpoint, learned, optimizer, schedule, settings, curve)
    return curve


def _keep(
    checkpoint: Path,
    learned: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    settings: LearningSettings,
    curve: list[CurvePoint],
) -> None:
    """Written beside and renamed: a kill leaves the one before."""
    partial = checkpoint.with_name(checkpoint.name + ".partial")
    state: dict[str, Any] = {
        "settings": _identity(settings),
        "learned": learned.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "curve": [(point.step, point.losses) for point in curve],
    }
    torch.save(state, partial)
    partial.replace(checkpoint)


def _restored(
    checkpoint: Path,
    learned: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    settings: LearningSettings,
) -> list[CurvePoint]:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if state["settings"] != _identity(settings):
        raise SettingsError(
            f"{checkpoint} was made with other settings: {state['settings']}. Delete it, or train with those."
        )
    learned.load_state_dict(state["learned"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return [CurvePoint(step, losses) for step, losses in state["curve"]]


def _identity(settings: LearningSettings) -> dict[str, float]:
    """All but how often it is kept."""
    return {name: value for name, value in asdict(settings).items() if name != "checkpoint_every"}


def _rate(step: int, settings: LearningSettings) -> float:
    """Share of the learning rate: linear warm-up, then half a cosine down to zero."""
    if step < settings.warm_up_steps:
        return (step + 1) / (settings.warm_up_steps + 1)
    done = (step - settings.warm_up_steps) / max(1, settings.steps - settings.warm_up_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Vectors (norms, biases) and embeddings are not decayed."""
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in learned if parameter.ndim > 1 and parameter.shape[0] > 1]
    others = [parameter for parameter in learned if not (parameter.ndim > 1 and parameter.shape[0] > 1)]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
