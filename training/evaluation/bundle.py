"""Evaluates a bundle as it lies on disk: `chexnode train evaluate`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from schemas.bundle import Metric
from schemas.errors import BundleError
from training.evaluation.phantoms import PhantomBaseline, evaluate_phantoms
from training.evaluation.reading import read_phantoms
from training.evaluation.refusals import evaluate_refusals, read_others
from training.examples.filling import Placing
from training.examples.phantoms import PhantomMaker, render_examples
from training.examples.targets import CHANNELS
from training.progress import training_progress
from training.regeneration.code_digest import code_digest
from workers.bundle import LoadedBundle

#: The baseline is fitted on so many phantoms of the bundle's own, and on four times those that it is compared on: on
#: few it would say less than a thumbnail can.
_FITTED, _FITTED_FOR_EACH = 1000, 4
#: Their longer side in pixels: a thumbnail sees nothing finer, and they are drawn in a tenth of the time.
_FITTED_SIDE = 384


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
    """Figures on phantoms of the frozen family, which no seed of a bundle's training belongs to.

    The baseline is fitted on as many phantoms of the bundle's training pool. Raises BundleError when the bundle answers
    other questions than phantoms have truth for.
    """
    manifest = bundle.manifest
    if manifest.channels != list(CHANNELS) or "phantoms" not in manifest.training.get("recipe", {}):
        raise BundleError(f"{manifest.name} {manifest.version} was not made by chexnode train regenerate.")
    return _report(bundle, seeds, _looks(bundle, seeds, cache, console))


def _looks(bundle: LoadedBundle, seeds: Sequence[int], cache: Path, console: Console) -> list[Metric]:
    manifest, pool = bundle.manifest, bundle.manifest.training["recipe"]["phantoms"]
    placing = Placing(manifest.preprocessing)
    count = _fitted(len(seeds), pool["training"])
    # Other code draws other examples, another profile places them otherwise.
    code = code_digest(["training.phantom", "training.examples.placing", "training.examples.phantoms"])
    key = hashlib.sha256((code + manifest.preprocessing.model_dump_json()).encode()).hexdigest()[:12]
    with training_progress(console) as progress:
        folder = cache / f"baseline-{_FITTED_SIDE}-{pool['first_seed']}-{count}-{key}"
        learned = render_examples(
            PhantomMaker(pool["first_seed"], film_side=_FITTED_SIDE), count, folder, placing, progress
        )
        readings = [reading for _, _, reading in read_phantoms(bundle.network, manifest, seeds, progress)]
        others = list(read_others(bundle.network, manifest, seeds[: max(10, len(seeds) // 5)], progress))
    return [*evaluate_phantoms(readings, PhantomBaseline(learned)), *evaluate_refusals(others)]


def _fitted(evaluated: int, learned: int) -> int:
    return min(learned, max(_FITTED, _FITTED_FOR_EACH * evaluated))


def _report(bundle: LoadedBundle, seeds: Sequence[int], metrics: list[Metric]) -> EvaluationReport:
    return EvaluationReport(
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        digest=bundle.digest,
        first_seed=seeds[0],
        count=len(seeds),
        metrics=metrics,
    )
