"""Training of a bundle's network: the first look at the whole image, then the second look at crops of it.

Called by the stages of `chexnode train regenerate` (training/regeneration/regenerate.py).
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor, nn

from schemas.bundle import Manifest
from schemas.errors import BundleError
from training.examples.mixture import Mixture
from training.examples.store import Examples
from training.examples.targets import CHANNELS, CLOSER_CHANNELS, TARGETS
from training.learning.augment import closer_batch, first_batch
from training.learning.loop import CurvePoint, LearningSettings, learn
from training.learning.losses import TOKEN_MAPS, Weights, closer_loss, first_loss, present_weights, token_loss
from workers.networks.network import Network

_Losses = Callable[[torch.Generator], dict[str, Tensor]]


def fit_first_look(
    network: Network,
    mixture: Mixture,
    manifest: Manifest,
    settings: LearningSettings,
    progress: Progress,
    checkpoint: Path | None = None,
) -> list[CurvePoint]:
    """Train backbone, classes and dense head in place, together, on a GPU where there is one.

    The network ends on the CPU, in evaluation mode.

    Parameters
    ----------
    manifest : its classes are among `TARGETS` (take `mixture.taught()`), its channels are `CHANNELS`
    checkpoint : a file that training keeps its state in and goes on from

    Raises BundleError for other classes or channels, FloatingPointError for a loss that is not finite, SettingsError
    for a checkpoint of other settings.
    """
    targets = _targets(manifest)
    device = _device()
    columns = torch.tensor([TARGETS.index(target) for target in targets], device=device)
    present = present_weights(mixture.present_shares(targets)).to(device)
    # Looks at the patch tokens during training only.
    torch.manual_seed(settings.seed)
    probe = nn.Linear(network.backbone.blocks_given * network.backbone.width, TOKEN_MAPS)
    parts = [part for part in (network.backbone, network.classifier, network.dense, probe) if part is not None]
    learned = nn.ModuleList(parts).to(device).train()

    def losses(examples: Examples, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        batch = first_batch(examples, manifest.preprocessing, generator).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            features = network.backbone(batch.images)
            output = network.heads(features)
            located = probe(torch.cat(features.patches, dim=2))
        weights = Weights.at(step / settings.steps)
        return first_loss(output, batch, columns, present, weights) | {"tokens": token_loss(located, batch)}

    def losses_from(first: int) -> Iterator[_Losses]:
        batches = mixture.batches(settings.batch, settings.seed, first)
        return (partial(losses, examples, step) for step, examples in enumerate(batches, first))

    curve = learn(learned, losses_from, settings, progress, "First look", checkpoint)
    network.cpu().eval()
    return curve


def fit_second_look(
    network: Network,
    mixture: Mixture,
    manifest: Manifest,
    settings: LearningSettings,
    progress: Progress,
    checkpoint: Path | None = None,
) -> list[CurvePoint]:
    """Train the second look in place, from crops above the carina alone; as `fit_first_look`.

    Raises BundleError for a manifest without one, or with other channels than `CLOSER_CHANNELS`.
    """
    head, module = manifest.second_look, network.second_look
    if head is None or module is None:
        raise BundleError(f"The manifest of {manifest.name} has no second look to train.")
    if head.channels != list(CLOSER_CHANNELS):
        raise BundleError(f"The second look of {manifest.name} has other channels than examples have truth for.")
    device = _device()
    module.to(device).train()

    def losses(examples: Examples, generator: torch.Generator) -> dict[str, Tensor]:
        batch = closer_batch(examples, manifest.preprocessing, head.crop, head.stride, generator).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            dense = module(batch.images)
        return closer_loss(dense, batch)

    def losses_from(first: int) -> Iterator[_Losses]:
        batches = mixture.batches(settings.batch, settings.seed, first, detailed=True)
        return (partial(losses, examples) for examples in batches)

    curve = learn(module, losses_from, settings, progress, "Second look", checkpoint)
    network.cpu().eval()
    return curve


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _targets(manifest: Manifest) -> list[str]:
    targets = [str(scored.target) for scored in manifest.classes]
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or manifest.channels != list(CHANNELS):
        raise BundleError(
            f"{manifest.name} has other classes ({unknown}) or channels than examples have truth for: give those of "
            "training/examples/targets.py."
        )
    return targets
