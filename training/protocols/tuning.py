"""Fine-tuning of a whole backbone with a linear head: with layer decay, with LoRA, or from scratch.

Each rate is tried, and validation images choose among them. Called by compare.py.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schemas.preprocessing import Preprocessing
from training.pretraining.draws import Draws
from training.pretraining.parameter_groups import parameter_groups
from training.pretraining.probe import whole_images
from training.pretraining.schedule import Moment, warmed_up_cosine
from training.pretraining.store import Store
from training.pretraining.views import View
from training.protocols.grid import masked_loss
from training.protocols.lora import add_lora
from training.protocols.scores import macro_auroc
from workers.bundle import normalise
from workers.networks.features import Backbone
from workers.networks.linear import LinearProbe

_ASKED_AT_ONCE = 64
#: What fine-tuning sees of an image: most of it, never mirrored.
_VIEW = View(scale=(0.75, 1.0), jitter=0.5, brightness=0.2, contrast=0.2)


@dataclass(frozen=True)
class TuningSettings:
    """By default MAE's fine-tuning of ViT-L (arXiv 2111.06377), for fewer steps and smaller batches."""

    steps: int = 200
    batch: int = 32
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    warm_up: float = 0.1
    weight_decay: float = 0.05
    layer_decay: float = 0.75
    #: Only small matrices learn (training/protocols/lora.py).
    lora: bool = False


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Rows of a store with their labels."""

    store: Store
    #: [n]
    rows: NDArray[np.intp]
    #: float32 [n, targets]
    labels: NDArray[np.float32]


class Tuned(nn.Module):
    """A backbone with a linear head on its last class token and mean patch."""

    def __init__(self, backbone: Backbone, targets: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = LinearProbe(backbone.width, targets, blocks=1, mean_patch=True)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))[0]
        return logits


@dataclass(frozen=True, eq=False)
class ChosenNetwork:
    """The one that did best on validation images, and how well."""

    network: Tuned
    rate: float
    validation: float


def tuned(
    backbone: Backbone,
    learned: LabelledImages,
    validation: LabelledImages,
    preprocessing: Preprocessing,
    settings: TuningSettings,
    advance: Callable[[], None],
    seed: int = 0,
) -> ChosenNetwork:
    """A copy of the backbone, fine-tuned at the rate that does best on validation images.

    Parameters
    ----------
    advance : called after each step
    """
    tried = []
    for rate in settings.rates:
        torch.manual_seed(seed)
        network = Tuned(copy.deepcopy(backbone), learned.labels.shape[1])
        # Also what learned nothing by itself in pre-training: a teacher, fixed positions.
        network.requires_grad_(True)
        if settings.lora:
            add_lora(network.backbone)
        _fit(network, learned, preprocessing, settings, rate, advance, seed)
        found = macro_auroc(said_of_images(network, validation, preprocessing), validation.labels)
        tried.append(ChosenNetwork(network, rate, found))
    return max(tried, key=lambda each: float(np.nan_to_num(each.validation, nan=-1.0)))


def said_of_images(network: nn.Module, about: LabelledImages, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Logits float32 [n, targets]."""
    device = next(network.parameters()).device
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(about.rows), _ASKED_AT_ONCE):
            squares = torch.from_numpy(about.store.images.take(about.rows[start : start + _ASKED_AT_ONCE]))
            parts.append(network(whole_images(squares, preprocessing.size, preprocessing, device)).float().cpu())
    logits: NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def _fit(
    network: Tuned,
    learned: LabelledImages,
    preprocessing: Preprocessing,
    settings: TuningSettings,
    rate: float,
    advance: Callable[[], None],
    seed: int,
) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).train()
    layer_decay = 1.0 if settings.lora else settings.layer_decay
    groups = parameter_groups(network, settings.weight_decay, layer_decay=layer_decay)
    optimizer = torch.optim.AdamW(groups, lr=rate)
    for step, rows in enumerate(_batches(len(learned.rows), settings, seed)):
        moment = Moment(step, settings.steps)
        for group in optimizer.param_groups:
            now = warmed_up_cosine(moment, rate, 0.0, round(settings.warm_up * settings.steps))
            group["lr"] = now * group["rate_factor"]
        squares = torch.from_numpy(learned.store.images.take(learned.rows[rows])).to(device).float()[:, None] / 255
        draws = Draws(seed, step, range(len(rows)))
        images = normalise(_VIEW.of(squares, preprocessing.size, draws)[:, 0], preprocessing)
        torch.manual_seed(seed * 1_000_003 + step)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(images)
        loss = masked_loss(logits, torch.from_numpy(learned.labels[rows]).to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        advance()


def _batches(count: int, settings: TuningSettings, seed: int) -> Sequence[NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    return [rng.choice(count, min(settings.batch, count), replace=False) for _ in range(settings.steps)]
