"""How the bundle of the first phantom is made. Called by training/regeneration/regenerate.py."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from schemas.bundle import DenseHead, GloriHead, Manifest, Metric, ScoredClass
from training.calibration.operating_points import choose_operating_point
from training.evaluation.baseline import ThumbnailBaseline
from training.evaluation.cases import NOT_LOCATED_MM, Cases
from training.plain.evaluate import evaluate
from training.plain.films import Film
from training.plain.fit import fit
from training.plain.pictures import save_predictions
from training.plain.pool import Pool, load_pool
from training.plain.reading import Reading, read_films
from training.plain.targets import CHANNELS, CLASSES
from training.regeneration.making import BUNDLE, DRAFT_CARD, Evaluated, round_to_stored_precision, save_curve
from training.regeneration.recipe import Recipe
from training.regeneration.stages import Stage, Stages
from workers.bundle import LoadedBundle, copy_bundle, load_bundle, normalised, write_bundle
from workers.interpret import Interpretation
from workers.networks.dense import STRIDE
from workers.networks.network import Network, build_network

_PICTURED = 12
_SELFTEST_IMAGES = 2


class PhantomMaking:
    """A recipe whose data is the first phantom."""

    data = "simulated chest radiographs (training/plain/phantom); no patient data"
    attribution = ()
    patients = None
    code_of_evaluation = (
        "training.plain.phantom",
        "training.plain.films",
        "training.plain.reading",
        "training.plain.evaluate",
        "training.evaluation.baseline",
        "training.plain.making",
        "workers.interpret",
        "workers.tube_course",
        "workers.tube_position",
        "workers.landmark",
        "workers.placement",
    )

    def __init__(self, recipe: Recipe, progress: Progress) -> None:
        self._recipe = recipe
        self._progress = progress
        self._examples = Path()

    def train(self, stages: Stages) -> Stage:
        """Render the pool, train, choose operating points."""
        recipe = self._recipe
        stages.skip("curate", "the recipe names no real data")
        stages.skip("pretrain", "the backbone learns together with its heads")
        examples = stages.make(
            "examples",
            lambda folder: self._make_examples(folder),
            part=[recipe.pool, recipe.network.preprocessing],
            code=["training.plain.phantom", "training.plain.pool", "training.plain.targets", "workers.placement"],
        )
        self._examples = examples.folder
        heads = stages.make(
            "first-look",
            self._make_first_look,
            inputs=[examples],
            part=[recipe.network, recipe.training],
            code=["training.plain.fit", "training.plain.augment", "training.plain.losses", "workers.networks"],
        )
        return stages.make(
            "calibrate",
            lambda folder: self._calibrate(heads.folder / BUNDLE, folder),
            inputs=[examples, heads],
            part=[recipe.bundle, recipe.population],
            code=["training.calibration.operating_points", "training.evaluation.statistics"],
        )

    def evaluate(self, bundle: LoadedBundle, folder: Path) -> Evaluated:
        """Figures and cases on the frozen phantoms; pictures of the first ones and of the worst in `folder`."""
        first: list[tuple[Film, Interpretation]] = []
        readings: list[Reading] = []
        for film, interpretation, reading in self._read(bundle, self._seeds):
            readings.append(reading)
            if len(first) < _PICTURED:
                first.append((film, interpretation))
        cases = _cases(bundle.manifest, self._seeds, readings)
        save_predictions(first, folder / "1 samples, found (lines, crosses) and drawn (circles).png")
        again = self._read(bundle, [self._seeds[index] for index in _worst(cases)])
        save_predictions([(film, said) for film, said, _ in again], folder / "2 worst cases.png")
        learning = self._pool().part(0, min(self._recipe.pool.training, len(readings)))
        return Evaluated(cases, evaluate(readings, ThumbnailBaseline(learning)))

    def cases(self, bundle: LoadedBundle) -> Cases:
        """What another bundle says of the same phantoms."""
        readings = [reading for _, _, reading in self._read(bundle, self._seeds)]
        return _cases(bundle.manifest, self._seeds, readings)

    def on_patients(self, bundle: LoadedBundle, folder: Path) -> list[Metric]:
        """Nothing: a recipe of this kind takes no radiographs."""
        return []

    @property
    def _seeds(self) -> range:
        table = self._recipe.evaluation
        return range(table.first_seed, table.first_seed + table.count)

    def _read(self, bundle: LoadedBundle, seeds: Sequence[int]) -> Iterator[tuple[Film, Interpretation, Reading]]:
        return read_films(bundle.network, bundle.manifest, seeds, self._progress)

    def _pool(self) -> Pool:
        return load_pool(self._recipe.pool_settings, self._examples, self._progress)

    def _make_examples(self, folder: Path) -> None:
        load_pool(self._recipe.pool_settings, folder, self._progress)

    def _make_first_look(self, folder: Path) -> None:
        recipe, pool = self._recipe, self._pool()
        torch.manual_seed(recipe.training.seed)
        manifest = initial_manifest(recipe)
        network = build_network(manifest)
        curve = fit(
            network,
            pool.part(0, recipe.pool.training),
            recipe.network.preprocessing,
            recipe.training,
            self._progress,
        )
        round_to_stored_precision(network)
        save_curve(curve, folder)
        write_bundle(folder / BUNDLE, manifest, network, DRAFT_CARD, pool.images[:_SELFTEST_IMAGES])

    def _calibrate(self, draft: Path, folder: Path) -> None:
        recipe, loaded = self._recipe, load_bundle(draft)
        validation = self._pool().part(recipe.pool.training, recipe.pool.training + recipe.pool.validation)
        manifest = _with_operating_points(loaded.manifest, loaded.network, validation)
        identity = {**recipe.bundle.model_dump(), "population": recipe.population}
        copy_bundle(loaded, folder / BUNDLE, manifest.model_copy(update=identity), DRAFT_CARD)


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


def _cases(manifest: Manifest, seeds: Sequence[int], readings: Sequence[Reading]) -> Cases:
    def column(values: Sequence[float]) -> NDArray[np.float64]:
        return np.array(values, dtype=np.float64)

    def located(values: Sequence[float]) -> NDArray[np.float64]:
        return np.nan_to_num(column(values), nan=NOT_LOCATED_MM)

    tubes = np.array([reading.has_tube for reading in readings])
    figures = {
        "tube tip error mm": np.where(tubes, located([r.tip_error_mm for r in readings]), np.nan),
        "tip to carina error mm": np.where(tubes, located([r.distance_error_mm for r in readings]), np.nan),
        "carina error mm": np.where(tubes, located([r.carina_error_mm for r in readings]), np.nan),
    }
    for segment in readings[0].dice:
        figures[f"Dice {segment.value}"] = column([reading.dice[segment] for reading in readings])
    for index, scored in enumerate(manifest.classes):
        if scored.target in CLASSES:
            figures[f"score {scored.target}"] = column([reading.scores[index] for reading in readings])
            truth = CLASSES.index(scored.target)
            figures[f"truth {scored.target}"] = column([reading.truth[truth] for reading in readings])
    names = tuple(f"phantom {seed}" for seed in seeds)
    kinds = tuple("tube" if tube else "no tube" for tube in tubes)
    return Cases(names=names, patients=names, figures=figures, groups={"device": kinds})


def _worst(cases: Cases) -> list[int]:
    """The cases with the greatest errors of the tube's tip, then those with the poorest outlines."""
    tips = np.nan_to_num(cases.figures["tube tip error mm"], nan=-1.0)
    dice = np.mean([values for name, values in cases.figures.items() if name.startswith("Dice ")], axis=0)
    chosen = [*np.argsort(-tips)[: _PICTURED // 2], *np.argsort(dice)[: _PICTURED // 2]]
    return list(dict.fromkeys(int(index) for index in chosen))
