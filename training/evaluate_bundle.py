"""Evaluates a bundle as it lies on disk: `chexnode train evaluate`."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from schemas.bundle import Metric
from schemas.errors import BundleError
from training.baseline import ThumbnailBaseline
from training.evaluate import evaluate
from training.pool import PoolSettings, load_pool
from training.reading import read_films
from training.regenerate import training_progress
from training.targets import CHANNELS, CLASSES
from workers.bundle import LoadedBundle


class EvaluationReport(BaseModel):
    """The figures with what they belong to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    digest: str
    first_seed: int
    count: int
    metrics: list[Metric]


def evaluate_bundle(bundle: LoadedBundle, seeds: Sequence[int], cache: Path, console: Console) -> EvaluationReport:
    """Figures on the phantoms `seeds`; the baseline is fitted on as many phantoms of the bundle's training pool.

    Raises BundleError when the bundle answers other questions than phantoms have truth for, or when a seed was
    trained on.
    """
    manifest = bundle.manifest
    if [c.target for c in manifest.classes] != list(CLASSES) or manifest.channels != list(CHANNELS):
        raise BundleError(f"{manifest.name} has other classes or channels than phantoms have truth for.")
    pool = manifest.training["recipe"]["pool"]
    trained = range(pool["first_seed"], pool["first_seed"] + pool["training"] + pool["validation"])
    if seeds[0] < trained.stop and trained.start <= seeds[-1]:
        raise BundleError(f"{manifest.name} was made with seeds {trained.start} to {trained.stop - 1}; take others.")
    count = min(len(seeds), pool["training"])
    with training_progress(console) as progress:
        fitted = load_pool(PoolSettings(manifest.preprocessing, count, trained.start), cache, progress)
        readings = [reading for _, _, reading in read_films(bundle.network, manifest, seeds, progress)]
    return EvaluationReport(
        name=manifest.name,
        version=manifest.version,
        digest=bundle.digest,
        first_seed=seeds[0],
        count=len(seeds),
        metrics=evaluate(readings, ThumbnailBaseline(fitted)),
    )
