"""How a bundle with two looks is made, from 3-D phantoms and real radiographs. Called by regenerate.py."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from schemas.bundle import Manifest, Metric
from schemas.errors import BundleMakingError, SourceError
from training.calibration.device_courses import course_scores, traced_devices
from training.calibration.fitting import CalibrationPlan, LabelledLogits, calibrated_classes, with_classes
from training.calibration.reliability import save_reliability
from training.curation.attribution import attributions
from training.curation.curate import Curation, curate
from training.evaluation.cases import Cases
from training.evaluation.looks import evaluate_looks, read_cases
from training.evaluation.seeing import second_looks
from training.examples.details import film_placements, kept_details
from training.examples.mixture import LEAST_CASES, Mixture, Part
from training.examples.phantoms import PhantomMaker, render_examples
from training.examples.radiographs import read_examples
from training.examples.store import Examples, open_examples
from training.examples.targets import TARGETS
from training.learning.looks import fit_first_look, fit_second_look
from training.pretraining.recipe import PretrainingRecipe
from training.regeneration.initial_backbone import begin_with, check_pretraining, pretrain_backbone
from training.regeneration.look_manifest import look_manifest
from training.regeneration.making import BUNDLE, DRAFT_CARD, Evaluated, round_to_stored_precision, save_curve
from training.regeneration.patients import LEARNED, measure_on_patients, measured_on
from training.regeneration.recipe import Recipe
from training.regeneration.stages import Stage, Stages
from training.sources.catalogue import Named, open_folder
from workers.bundle import LoadedBundle, copy_bundle, load_bundle, normalised, write_bundle
from workers.networks.network import Network, NetworkOutput, build_network

_SELFTEST_IMAGES = 2
_PHANTOMS = "phantoms"
_TRAINING, _VALIDATION = "training", "validation"
#: Beside examples of radiographs: whose they are.
_PATIENTS = "patients.json"
_CHECKPOINT = "checkpoint.pt"
_BATCH = 16


class LookMaking:
    """A recipe with two looks.

    Parameters
    ----------
    given : folders of real sources; those that the recipe does not name are not used
    """

    #: All that training/evaluation/looks.py imports of these packages but the pictures' drawing.
    code_of_evaluation = (
        "training.curation.burned_in",
        "training.phantom",
        "training.examples",
        "training.evaluation",
        "training.rendering",
        "workers.acceptance",
        "workers.bars",
        "workers.bundle",
        "workers.calibration",
        "workers.components",
        "workers.interpret",
        "workers.landmark",
        "workers.line_course",
        "workers.networks",
        "workers.output",
        "workers.placement",
        "workers.second_look",
        "workers.spacing",
        "workers.tube_course",
        "workers.tube_limits",
        "workers.tube_position",
        "workers.tubes",
        "workers.two_looks",
    )

    def __init__(self, recipe: Recipe, given: Sequence[Named], progress: Progress) -> None:
        # Again: whoever has changed a recipe since it was read may have changed whose seeds are whose.
        check_pretraining(recipe)
        self._recipe = recipe
        self._progress = progress
        weights = {each.source: each.weight for each in recipe.sources}
        self._given = [each for each in given if _wanted(each) in weights]
        self._weights = {each.name: weights[_wanted(each)] for each in self._given} | {_PHANTOMS: recipe.phantom_weight}
        #: The radiographs, once they are curated, and where.
        self._curation: Curation | None = None
        self._curated = Path()
        #: Folders of examples by part: phantoms, then sources.
        self._folders: dict[str, Path] = {}
        #: Of each source that is used: images, licences, where it is described; then each article that images are from.
        self.attribution: list[str] = []

    @property
    def data(self) -> str:
        simulated = "simulated chest radiographs (training/phantom)"
        learned = [each.name for each in self._given if self._weights[each.name] > 0]
        if not learned:
            return f"{simulated}; no patient data"
        radiographs = f"radiographs of {', '.join(learned)}"
        return f"{simulated}; {radiographs}" if self._weights[_PHANTOMS] > 0 else radiographs

    def train(self, stages: Stages) -> Stage:
        """Curate, render and read examples, train both looks, calibrate."""
        recipe = self._recipe
        curation = self._curate(stages)
        pretrained = self._pretrain(stages, curation)
        inputs = self._examples(stages, curation)
        first = stages.make(
            "first-look",
            lambda folder: self._make_first_look(pretrained, folder),
            inputs=[*inputs, *pretrained],
            part=[recipe.network, recipe.first_look, recipe.shares],
            code=[
                "training.learning.augment",
                "training.learning.greys",
                "training.learning.looks",
                "training.learning.loop",
                "training.learning.losses",
                "training.examples.mixture",
                "training.regeneration.look_manifest",
                "workers.bundle",
                "workers.networks",
                *(_BEGINNING_CODE if pretrained else ()),
            ],
        )
        trained = self._train_second_look(stages, inputs, first)
        return stages.make(
            "calibrate",
            lambda folder: self._calibrate(trained.folder / BUNDLE, folder),
            inputs=[*inputs, trained],
            part=[recipe.bundle, recipe.population, recipe.calibration, self.data],
            code=[
                "training.calibration.device_courses",
                "training.calibration.fitting",
                "training.calibration.error",
                "training.calibration.operating_points",
                "training.evaluation.seeing",
                "training.evaluation.statistics",
                "training.examples.details",
                "training.regeneration.look_making",
                "workers.calibration",
                "workers.line_course",
                "workers.second_look",
                "workers.tube_course",
                "workers.tubes",
                "workers.two_looks",
            ],
        )

    def _train_second_look(self, stages: Stages, inputs: Sequence[Stage], first: Stage) -> Stage:
        """The stage with both looks; where nothing teaches the second one, that of the first."""
        if not self._looks_closer:
            stages.skip("second-look", "no phantom is learned from: nothing else shows where tips are")
            return first
        return stages.make(
            "second-look",
            lambda folder: self._make_second_look(first.folder / BUNDLE, folder),
            inputs=[*inputs, first],
            part=self._recipe.second_look,
            code=[
                "training.learning.augment",
                "training.learning.greys",
                "training.learning.looks",
                "training.learning.loop",
                "training.learning.losses",
            ],
        )

    def evaluate(self, bundle: LoadedBundle, folder: Path) -> Evaluated:
        learned = self._part(_PHANTOMS, _TRAINING)
        return evaluate_looks(bundle, self._seeds, learned, folder, self._progress)

    def cases(self, bundle: LoadedBundle) -> Cases:
        return read_cases(bundle, self._seeds, self._progress)

    @property
    def patients(self) -> Any:
        """The manifest's digest stands for the images, also for those that are left out of training."""
        if self._curation is None:
            return None
        kinds = {each.name: each.kind for each in self._given}
        return [self._curation.digest, measured_on(self._recipe.curation), sorted(kinds.items())]

    def on_patients(self, bundle: LoadedBundle, folder: Path) -> list[Metric]:
        assert self._curation is not None
        return measure_on_patients(bundle, self._given, self._curation, self._curated, folder, self._progress)

    @property
    def _looks_closer(self) -> bool:
        return self._weights[_PHANTOMS] > 0

    @property
    def _seeds(self) -> range:
        table = self._recipe.evaluation
        return range(table.first_seed, table.first_seed + table.count)

    @property
    def _corners(self) -> float | None:
        """Beside radiographs, phantoms are treated as they are."""
        return self._recipe.curation.corners if self._given else None

    def _curate(self, stages: Stages) -> Curation | None:
        missing = [each.source for each in self._recipe.sources if each.source not in map(_wanted, self._given)]
        if missing:
            self._progress.console.print(
                f"[yellow]no folder given for {', '.join(missing)}:[/] left out (--source KIND=FOLDER)", highlight=False
            )
        if not self._given:
            stages.skip("curate", "no real radiographs are given")
            return None
        sources = [open_folder(each) for each in self._given]
        identity = [[each.name, each.kind, str(Path(each.where).resolve())] for each in self._given]
        stage = stages.make(
            "curate",
            lambda folder: _discard(curate(sources, self._recipe.curation, folder, self._progress)),
            part=[identity, self._recipe.curation],
            code=["training.curation", "training.sources"],
        )
        # Again, from what the stage has seen of each file: one that was changed since is looked at anew.
        curation = curate(sources, self._recipe.curation, stage.folder, self._progress)
        self._curation, self._curated = curation, stage.folder
        used = [image for image in curation.images if image.split in LEARNED]
        for source in sources:
            if self._weights[source.name] > 0:
                self.attribution.extend(attributions(source, used))
        return curation

    def _pretrain(self, stages: Stages, curation: Curation | None) -> list[Stage]:
        """The stage with the backbone that the first look begins with; none where the recipe names no pre-training."""
        wanted = self._pretraining
        if wanted is None:
            stages.skip("pretrain", "the backbone learns together with its heads")
            return []
        names = self._pretraining_sources
        stage = stages.make(
            "pretrain",
            lambda folder: pretrain_backbone(wanted, curation, names, folder, self._progress),
            # The digest stands for the images, and is of no matter to phantoms.
            part=[wanted, names, [curation.digest, self._recipe.curation] if curation is not None and names else None],
            code=[
                "training.curation",
                "training.examples",
                "training.learning.loop",
                "training.phantom",
                "training.pretraining",
                "training.regeneration.initial_backbone",
                "training.rendering",
                "training.sources",
                "workers.bars",
                "workers.bundle",
                "workers.checkpoints.importing",
                "workers.networks",
                "workers.placement",
                "workers.tube_limits",
            ],
        )
        return [stage]

    @property
    def _pretraining(self) -> PretrainingRecipe | None:
        """What is pre-trained, with the curation that it really has."""
        table = self._recipe.pretraining
        if table is None:
            return None
        data = table.recipe.data.model_copy(update={"curation": self._recipe.curation})
        return table.recipe.model_copy(update={"data": data})

    @property
    def _pretraining_sources(self) -> list[str]:
        """Names of the sources that the pre-training reads: it wants them, and this recipe learns from them."""
        table = self._recipe.pretraining
        wanted = [] if table is None else table.recipe.data.sources
        return [each.name for each in self._given if _wanted(each) in wanted and self._weights[each.name] > 0]

    @property
    def pretrained_with(self) -> dict[str, str] | None:
        """What the manifest says of the pre-training; None without one."""
        wanted = self._pretraining
        if wanted is None:
            return None
        simulated = [f"{wanted.data.phantoms.training:,} simulated radiographs"] if wanted.data.phantoms else []
        sources = self._pretraining_sources
        radiographs = [f"radiographs of {', '.join(sources)}"] if sources else []
        return {
            "method": wanted.method.kind,
            "recipe": wanted.name,
            "version": wanted.version,
            "data": "; ".join([*simulated, *radiographs]),
        }

    def _examples(self, stages: Stages, curation: Curation | None) -> list[Stage]:
        recipe = self._recipe
        rendered = stages.make(
            "examples",
            self._render,
            part=[recipe.phantoms, recipe.network.preprocessing, recipe.network.detail_size, self._corners],
            code=[
                "training.curation.burned_in",
                "training.phantom",
                *_EXAMPLE_CODE,
                "training.examples.phantoms",
                "training.rendering",
                "workers.tube_limits",
            ],
        )
        self._folders[_PHANTOMS] = rendered.folder
        if curation is None:
            return [rendered]
        read = stages.make(
            "radiographs",
            lambda folder: self._read(curation, folder),
            # The manifest's digest stands for the images, wherever they lie.
            part=[curation.digest, recipe.curation, recipe.network.preprocessing, recipe.network.detail_size],
            code=["training.sources", "training.curation", *_EXAMPLE_CODE, "training.examples.radiographs"],
        )
        for each in self._given:
            self._folders[each.name] = read.folder / each.name
        return [rendered, read]

    def _render(self, folder: Path) -> None:
        table = self._recipe.phantoms
        learned = PhantomMaker(table.first_seed, corners=self._corners)
        # Operating points are chosen on films as a node receives them.
        validation = PhantomMaker(table.first_seed + table.training)
        for name, maker, count in ((_TRAINING, learned, table.training), (_VALIDATION, validation, table.validation)):
            render_examples(maker, count, folder / name, self._recipe.placing, self._progress)

    def _read(self, curation: Curation, folder: Path) -> None:
        for part, chosen in ((_TRAINING, curation.part("train")), (_VALIDATION, curation.part("val"))):
            for name in (each.name for each in self._given):
                samples = [each for each in chosen if each.source == name]
                if not samples:
                    raise SourceError(
                        f"Of {name} nothing is left for {part}: leave it out, or see the manifest of its curation."
                    )
                title = f"Reading {name}, {part}"
                read_examples(samples, folder / name / part, self._recipe.placing, self._progress, title)
                patients = json.dumps([each.patient for each in samples])
                (folder / name / part / _PATIENTS).write_text(patients, encoding="utf-8")

    def _part(self, name: str, part: str) -> Examples:
        return open_examples(self._folders[name] / part)

    def _mixture(self) -> Mixture:
        return Mixture([Part(name, self._part(name, _TRAINING), self._weights[name]) for name in self._folders])

    def _manifest(self, mixture: Mixture) -> Manifest:
        recipe, targets = self._recipe, mixture.taught(self._recipe.network.classes)
        if not targets:
            raise BundleMakingError(
                f"So few examples teach no class: each needs {LEAST_CASES} present and as many absent ones. "
                "Give more phantoms."
            )
        manifest = look_manifest(
            recipe.bundle.name,
            recipe.bundle.version,
            recipe.bundle.licence,
            recipe.population,
            targets,
            backbone=recipe.network.backbone,
            preprocessing=recipe.network.preprocessing,
            glori=recipe.network.glori,
            dense=recipe.network.dense,
            second_look=recipe.network.second_look,
            detail_size=recipe.network.detail_size,
        )
        if self._looks_closer:
            return manifest
        heads = [head for head in manifest.heads if head is not manifest.second_look]
        return manifest.model_copy(update={"heads": heads})

    def _make_first_look(self, pretrained: Sequence[Stage], folder: Path) -> None:
        settings, checkpoint = self._recipe.first_look.settings, folder / _CHECKPOINT
        if not (folder / BUNDLE).exists():
            mixture = self._mixture()
            torch.manual_seed(settings.seed)
            manifest = self._manifest(mixture)
            network = build_network(manifest)
            for stage in pretrained:
                begin_with(network.backbone, stage.folder)
            curve = fit_first_look(network, mixture, manifest, settings, self._progress, checkpoint)
            save_curve(curve, folder)
            self._write_draft(folder, manifest, network)
        # Only now: a kill before would begin anew.
        checkpoint.unlink(missing_ok=True)

    def _make_second_look(self, draft: Path, folder: Path) -> None:
        settings, checkpoint = self._recipe.second_look.settings, folder / _CHECKPOINT
        if not (folder / BUNDLE).exists():
            loaded = load_bundle(draft)
            curve = fit_second_look(
                loaded.network, self._mixture(), loaded.manifest, settings, self._progress, checkpoint
            )
            save_curve(curve, folder)
            self._write_draft(folder, loaded.manifest, loaded.network)
        checkpoint.unlink(missing_ok=True)

    def _write_draft(self, folder: Path, manifest: Manifest, network: Network) -> None:
        round_to_stored_precision(network)
        images = np.asarray(self._part(_PHANTOMS, _TRAINING).images[:_SELFTEST_IMAGES])
        write_bundle(folder / BUNDLE, manifest, network, DRAFT_CARD, images)

    def _calibrate(self, draft: Path, folder: Path) -> None:
        """On the validation parts of phantoms and radiographs; reliability diagrams go with it."""
        recipe, loaded = self._recipe, load_bundle(draft)
        # Nobody has looked for a threshold yet: what has too few cases for one stays undetermined.
        manifest = _without_points(loaded.manifest).model_copy(
            update={**recipe.bundle.model_dump(), "population": recipe.population}
        )
        plan = CalibrationPlan(
            data=f"validation cases of {self.data}",
            real=False,
            sensitivity=recipe.calibration.sensitivity,
            sensitivities=recipe.calibration.sensitivities,
            least_specificity=recipe.calibration.least_specificity,
            withheld=recipe.calibration.withheld,
        )
        classes = list(calibrated_classes(manifest, self._validation(loaded), plan))
        if any(each.is_fitted for each in classes):
            title = f"{manifest.name} {manifest.version} on validation cases"
            save_reliability(classes, folder / "reliability.png", title)
        copy_bundle(loaded, folder / BUNDLE, with_classes(manifest, classes), DRAFT_CARD)

    def _validation(self, bundle: LoadedBundle) -> LabelledLogits:
        manifest = bundle.manifest
        targets = [TARGETS.index(str(scored.target)) for scored in manifest.classes]
        logits, truth, patients = [], [], []
        courses: dict[str, list[float]] = {each.presence_target: [] for each in traced_devices(manifest)}
        for name in (each for each in self._folders if self._weights[each] > 0):
            examples = self._part(name, _VALIDATION)
            task = self._progress.add_task(f"Validation, {name}", total=len(examples))
            for start in range(0, len(examples), _BATCH):
                part = examples.rows(slice(start, start + _BATCH))
                output = _said(bundle, np.asarray(part.images))
                logits.append(output.logits.double().numpy())
                truth.append(np.asarray(part.classes)[:, targets])
                details = kept_details(part, manifest)
                closers = second_looks(bundle.network, manifest, output.dense.numpy(), details)
                placements = film_placements(part, manifest)
                for target, scores in course_scores(output.dense, placements, closers, manifest).items():
                    courses[target] += scores
                self._progress.advance(task, len(part))
            kept = self._folders[name] / _VALIDATION / _PATIENTS
            of_part = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else range(len(examples))
            patients += [f"{name} {patient}" for patient in of_part]
        return LabelledLogits(
            np.concatenate(logits),
            np.concatenate(truth),
            np.array(patients),
            {target: np.array(scores) for target, scores in courses.items()},
        )


_EXAMPLE_CODE = (
    "training.examples.filling",
    "training.examples.placing",
    "training.examples.targets",
    "training.examples.store",
    "workers.bars",
    "workers.placement",
    "workers.tube_limits",
)


#: What brings a pre-trained backbone into the first look.
_BEGINNING_CODE = ("training.pretraining.positions", "training.regeneration.initial_backbone")


def _wanted(named: Named) -> str:
    """As a recipe names it."""
    return named.kind if named.name == named.kind else f"{named.kind}:{named.name}"


def _discard(curation: Curation) -> None:
    """What the stage keeps lies in its folder."""


def _without_points(manifest: Manifest) -> Manifest:
    head = manifest.classifier
    assert head is not None
    classes = [scored.model_copy(update={"operating_point": None}) for scored in head.classes]
    rated = head.model_copy(update={"classes": classes})
    return manifest.model_copy(update={"heads": [rated if each is head else each for each in manifest.heads]})


def _said(bundle: LoadedBundle, images: NDArray[np.uint8]) -> NetworkOutput:
    with torch.inference_mode():
        output: NetworkOutput = bundle.network(normalised(images, bundle.manifest.preprocessing))
    return output
