"""Makes a bundle from its recipe: render, train, choose operating points, evaluate, write."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from schemas.bundle import DenseHead, GloriHead, Manifest, Metric, ScoredClass
from training.baseline import ThumbnailBaseline
from training.card import write_card
from training.evaluate import evaluate
from training.fit import CurvePoint, fit
from training.operating_points import choose_operating_point
from training.pictures import save_predictions, save_training_curve
from training.pool import Pool, load_pool, phantom_code_digest
from training.reading import read_films
from training.recipe import Recipe
from training.targets import CHANNELS, CLASSES
from workers.bundle import LoadedBundle, normalised, write_bundle
from workers.metrics_table import metrics_table
from workers.networks.dense import STRIDE
from workers.networks.network import Network, build_network

_PICTURED = 12
_SELFTEST_IMAGES = 2


@dataclass(frozen=True)
class Regenerated:
    """The bundle as written, and the folder of this run's pictures."""

    bundle: LoadedBundle
    run_folder: Path


def regenerate(recipe: Recipe, out: Path, cache: Path, console: Console) -> Regenerated:
    """Make the recipe's bundle in the folder `out`, which is replaced only when everything is done.

    Phantoms are kept in `cache`; the training curve and pictures of predictions go to a new folder in `cache`/runs.
    """
    started = time.monotonic()
    torch.manual_seed(recipe.training.seed)
    manifest = initial_manifest(recipe)
    network = build_network(manifest)
    with training_progress(console) as progress:
        pool = load_pool(recipe.pool_settings, cache, progress)
        learning = pool.part(0, recipe.pool.training)
        curve = fit(network, learning, recipe.network.preprocessing, recipe.training, progress)
        _round_to_stored_precision(network)
        validation = pool.part(recipe.pool.training, len(pool))
        manifest = _with_operating_points(manifest, network, validation)
        metrics, run_folder = _evaluate(recipe, manifest, network, learning, curve, cache, progress)
    minutes = (time.monotonic() - started) / 60
    manifest = manifest.model_copy(update={"metrics": metrics, "training": _provenance(recipe, curve, minutes)})
    bundle = write_bundle(out, manifest, network, write_card(manifest), pool.images[:_SELFTEST_IMAGES])
    console.print(metrics_table(metrics, f"{manifest.name} {manifest.version} on fresh phantoms"))
    console.print(f"{out}: made in {minutes:.1f} minutes, digest {bundle.digest[:16]}; pictures in {run_folder}")
    return Regenerated(bundle, run_folder)


@contextmanager
def training_progress(console: Console) -> Iterator[Progress]:
    """Progress bars with counts, elapsed and remaining time."""
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        yield progress


def initial_manifest(recipe: Recipe) -> Manifest:
    """Everything that is known before training."""
    return Manifest(
        name=recipe.bundle.name,
        version=recipe.bundle.version,
        created=datetime.now(UTC).date(),
        architecture=recipe.network.backbone,
        preprocessing=recipe.network.preprocessing,
        heads=[
            GloriHead(
                file="heads/glori.safetensors",
                arguments=recipe.network.glori,
                classes=[ScoredClass(target=target, operating_point=0.5) for target in CLASSES],
            ),
            DenseHead(
                file="heads/dense.safetensors",
                arguments=recipe.network.dense,
                stride=STRIDE,
                channels=list(CHANNELS),
            ),
        ],
        population=recipe.population,
        training={},
        licence=recipe.bundle.licence,
    )


def _round_to_stored_precision(network: Network) -> None:
    """Operating points and figures belong to the weights that are shipped, which are float16."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())


def _with_operating_points(manifest: Manifest, network: Network, validation: Pool) -> Manifest:
    scores = _scores(network, manifest, validation)
    classes = [
        scored.model_copy(update={"operating_point": choose_operating_point(scores[:, i], validation.classes[:, i])})
        for i, scored in enumerate(manifest.classes)
    ]
    classifier = manifest.classifier
    assert classifier is not None
    rated = classifier.model_copy(update={"classes": classes})
    return manifest.model_copy(update={"heads": [rated, manifest.dense]})


def _scores(network: Network, manifest: Manifest, pool: Pool) -> NDArray[np.float32]:
    """Sigmoid of the logits, float32 [N, classes]."""
    batches = []
    with torch.inference_mode():
        for start in range(0, len(pool), 16):
            images = np.asarray(pool.images[start : start + 16])
            batches.append(network(normalised(images, manifest.preprocessing)).logits.sigmoid().numpy())
    return np.concatenate(batches)


def _evaluate(
    recipe: Recipe,
    manifest: Manifest,
    network: Network,
    learning: Pool,
    curve: list[CurvePoint],
    cache: Path,
    progress: Progress,
) -> tuple[list[Metric], Path]:
    """Figures on fresh phantoms, with pictures of the first few."""
    seeds = range(recipe.evaluation.first_seed, recipe.evaluation.first_seed + recipe.evaluation.count)
    reading = read_films(network, manifest, seeds, progress)
    first = list(islice(reading, _PICTURED))
    readings = [item[2] for item in first] + [item[2] for item in reading]
    run_folder = cache / "runs" / f"{recipe.bundle.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    run_folder.mkdir(parents=True)
    save_training_curve(curve, run_folder / "training-curve.png")
    save_predictions([(film, interpretation) for film, interpretation, _ in first], run_folder / "predictions.png")
    baseline = ThumbnailBaseline(learning.part(0, len(seeds)))
    return evaluate(readings, baseline), run_folder


def _provenance(recipe: Recipe, curve: list[CurvePoint], minutes: float) -> dict[str, Any]:
    last = curve[-20:]
    losses = {name: round(math.fsum(p.losses[name] for p in last) / len(last), 4) for name in last[0].losses}
    return {
        "data": "simulated chest radiographs (training/phantom); no patient data",
        "phantom_code_sha256": phantom_code_digest(),
        "recipe": recipe.model_dump(mode="json", exclude={"bundle", "population"}),
        "last_losses": losses,
        "minutes": round(minutes, 1),
        "torch": str(torch.__version__),
    }
