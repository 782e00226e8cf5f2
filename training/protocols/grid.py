"""One head per learning rate, all of them trained in one pass over cached features; validation images choose.

As CheXFound evaluates (13 rates from 1e-5 to 0.1), but unknown labels count for no head, and nothing is chosen on what
is tested. Called by compare.py.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.protocols.features import CachedFeatures
from training.protocols.scores import macro_auroc

RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)
_WEIGHT_DECAY = 1e-4
_ASKED_AT_ONCE = 256

Precision = Literal["float32", "bf16"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Rows of cached features with their labels."""

    features: CachedFeatures
    #: [n]
    rows: NDArray[np.intp]
    #: float32 [n, targets]; 1 present, 0 absent, NaN unknown.
    labels: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Chosen:
    """The head that did best on validation images."""

    head: nn.Module
    rate: float
    validation: float


def best_of_grid(
    create: Callable[[], nn.Module],
    learned: Labelled,
    validation: Labelled,
    *,
    rates: Sequence[float] = RATES,
    steps: int = 400,
    batch: int = 64,
    seed: int = 0,
    precision: Precision = "float32",
) -> Chosen:
    """Train a head at each rate on the same batches; the one with the greatest macro AUROC on validation images.

    AdamW, cosine to 0, no warm-up. `create` gives a fresh head, which gives (logits [B, targets], ...) for Features.
    `precision` is that of training; what is asked of a head is computed in float32.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    first = create()
    heads = nn.ModuleList()
    for _ in rates:
        head = create()
        # All begin alike: what differs between them is the rate.
        head.load_state_dict(first.state_dict())
        heads.append(head.to(device))
    groups = [{"params": list(head.parameters()), "lr": rate} for head, rate in zip(heads, rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    rng = np.random.default_rng(seed)
    heads.train()
    for _ in range(steps):
        picked = rng.choice(len(learned.rows), min(batch, len(learned.rows)), replace=False)
        features = learned.features.of(learned.rows[picked], device)
        labels = torch.from_numpy(learned.labels[picked]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            said_by_each = [head(features)[0] for head in heads]
        loss = torch.stack([masked_loss(logits, labels) for logits in said_by_each]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    found = [macro_auroc(said(head, validation), validation.labels) for head in heads]
    # NaN (no target with both kinds of cases) loses to any figure.
    best = int(np.argmax(np.nan_to_num(found, nan=-1.0)))
    return Chosen(heads[best].cpu().eval(), rates[best], found[best])


@torch.inference_mode()
def said(head: nn.Module, about: Labelled) -> NDArray[np.float32]:
    """Logits float32 [n, targets] of a head about rows of features."""
    head.eval()
    device = next(head.parameters()).device
    parts = []
    for start in range(0, len(about.rows), _ASKED_AT_ONCE):
        parts.append(head(about.features.of(about.rows[start : start + _ASKED_AT_ONCE], device))[0].cpu())
    logits: NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def masked_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy, mean over the known labels; NaN is unknown and counts for nothing."""
    known = torch.isfinite(labels)
    each = F.binary_cross_entropy_with_logits(logits.float(), labels.nan_to_num(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)
