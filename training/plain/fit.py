"""The training loop: AdamW, cosine schedule, bf16 autocast, bounded in steps."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import nn

from schemas.preprocessing import Preprocessing
from training.learning.loop import CurvePoint as CurvePoint
from training.plain.augment import augmented_batch
from training.plain.losses import TOKEN_MAPS, token_loss, training_loss
from training.plain.pool import Pool
from training.regeneration.recipe import TrainingTable
from workers.networks.network import Network

_REPORT_EVERY = 20


def fit(
    network: Network, pool: Pool, preprocessing: Preprocessing, settings: TrainingTable, progress: Progress
) -> list[CurvePoint]:
    """Train the network in place; it ends in evaluation mode. Raises FloatingPointError when the loss is not finite."""
    network.train()
    # Looks at the patch tokens during training only.
    probe = nn.Linear(network.backbone.blocks_given * network.backbone.width, TOKEN_MAPS)
    learned = nn.ModuleList([network, probe])
    optimizer = torch.optim.AdamW(_parameter_groups(learned, settings.weight_decay), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    generator = torch.Generator().manual_seed(settings.seed)
    curve: list[CurvePoint] = []
    task = progress.add_task("Training", total=settings.steps)
    for step, indices in zip(range(settings.steps), _shuffled(len(pool), settings), strict=False):
        batch = augmented_batch(pool, indices, preprocessing, generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = network.backbone(batch.images)
            output = network.heads(features)
            located = probe(torch.cat(features.patches, dim=2))
        losses = training_loss(output, batch) | {"tokens": token_loss(located, batch)}
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"The loss is {loss.item()} at step {step}.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        curve.append(CurvePoint(step, {name: float(part.detach()) for name, part in losses.items()}))
        progress.advance(task)
        if step % _REPORT_EVERY == 0 or step == settings.steps - 1:
            parts = "  ".join(f"{name} {value:.3f}" for name, value in curve[-1].losses.items())
            progress.console.print(f"step {step:4d}  {parts}")
    network.eval()
    return curve


def _rate(step: int, settings: TrainingTable) -> float:
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


def _shuffled(count: int, settings: TrainingTable) -> Iterator[NDArray[np.intp]]:
    """Batches of indices without end; each phantom once per round."""
    rng = np.random.default_rng(settings.seed)
    waiting = np.empty(0, dtype=np.intp)
    while True:
        while len(waiting) < settings.batch:
            waiting = np.concatenate([waiting, rng.permutation(count)])
        yield np.sort(waiting[: settings.batch])
        waiting = waiting[settings.batch :]
