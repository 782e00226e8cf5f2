"""Evaluation on radiographs of patients whom nothing was learned from: lungs, classes, what is refused, and questions.

Curation has taken corners and letters away (training/curation). Intervals are over patients. Called by the stage
`patients` of `chexnode train regenerate` and by benchmarks/real_images.py.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from schemas.bundle import Metric
from schemas.codes import DistanceBasis
from training.curation.curate import Curation
from training.evaluation.baseline import ThumbnailBaseline
from training.evaluation.probes import Question, answer
from training.evaluation.radiograph import Radiograph, outlined_lungs, read_radiograph
from training.evaluation.seeing import Seen, look
from training.evaluation.statistics import auroc, auroc_metric, mean, metric, share
from training.examples.placing import place
from training.sources.source import Sample
from workers.bundle import LoadedBundle
from workers.calibration import class_scores
from workers.interpret import interpret
from workers.spacing import Spacing

#: What is asked beyond the bundle's own classes, by kind of source.
_QUESTIONS: Mapping[str, tuple[Question, ...]] = {
    "kermany": (
        Question("pneumonia, lung box", "pneumonia", lungs_only=True),
        Question("bacterial against viral, lung box", "pneumonia.bacterial", lungs_only=True),
    ),
    "nih": (Question("AP against PA", "view.ap"),),
    # Among AP films alone: the view half gives a tube away.
    "covid-chestxray": (Question("tube among AP films", "endotracheal_tube.presence", view="AP"),),
}
#: Fewer cases of either kind, learned from or tested on, give no figure; of a few, intervals say how few they are.
_LEAST = 5
_NO_SPACING = Spacing(0.0, 0.0, DistanceBasis.NONE)


def evaluate_radiographs(
    bundle: LoadedBundle, curation: Curation, kinds: Mapping[str, str], progress: Progress
) -> list[Metric]:
    """All figures that the test patients of the sources allow; each says whose it is (`Metric.data`).

    Baselines and probes are fitted on the other patients of the same source.

    Parameters
    ----------
    kinds : by the name of each source its kind (training/sources/catalogue.py)
    """
    learning, test = (*curation.part("train"), *curation.part("val")), curation.part("test")
    figures = []
    for name, kind in kinds.items():
        questions = _QUESTIONS.get(kind, ())
        crop = any(question.lungs_only for question in questions)
        taught, asked = ([each for each in part if each.source == name] for part in (learning, test))
        if not asked:
            continue
        task = progress.add_task(f"Patients of {name}", total=len(taught) + len(asked))
        learned = []
        for sample in taught:
            learned.append(read_radiograph(sample, sample.read(), bundle, crop_lungs=crop))
            progress.advance(task)
        tested = []
        for sample in asked:
            tested.append(_tested(sample, bundle, crop_lungs=crop))
            progress.advance(task)
        measured = [*_lungs(learned, tested), *_classes(bundle, learned, tested), *_refused(tested)]
        for question in questions:
            measured += _answered(question, bundle, learned, [each.radiograph for each in tested])
        figures += [each.model_copy(update={"data": f"test patients of {name}"}) for each in measured]
    return [each for each in figures if math.isfinite(each.value) and math.isfinite(each.low)]


@dataclass(frozen=True, eq=False)
class _Tested:
    """A radiograph of a test patient, and what is said of it."""

    radiograph: Radiograph
    #: By target, as results state it.
    scores: Mapping[str, float]
    refused: bool
    #: Of both lungs together; NaN where nobody drew them.
    dice: float


def _tested(sample: Sample, bundle: LoadedBundle, *, crop_lungs: bool) -> _Tested:
    image, manifest = sample.read(), bundle.manifest
    pixels, placement = place(image, manifest.preprocessing)
    output = look(bundle.network, manifest, Seen(pixels, placement, None))
    said = interpret(output, manifest, placement, _NO_SPACING, age_years=sample.age_years)
    values = class_scores(output.logits, manifest.classes).tolist()
    scores = dict(zip((str(scored.target) for scored in manifest.classes), values, strict=True))
    # Of a device results state class and course together.
    scores |= {tube.device.presence_target: tube.score for tube in said.tubes}
    dice, found = math.nan, outlined_lungs(output, placement, manifest)
    if found is not None and "lungs" in sample.masks:
        truth = sample.masks["lungs"].read(*image.shape)
        dice = float(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))
    return _Tested(read_radiograph(sample, image, bundle, crop_lungs=crop_lungs), scores, bool(said.refused), dice)


def _lungs(learned: Sequence[Radiograph], tested: Sequence[_Tested]) -> Iterator[Metric]:
    """Beside it where lungs are in half of the other patients' films."""
    outlined = [each for each in tested if math.isfinite(each.dice)]
    if not outlined:
        return
    values = np.array([each.dice for each in outlined])
    figure = metric("Dice lungs, mean", values, mean, _patients([each.radiograph for each in outlined]))
    drawn = [each.outline for each in learned if each.outline is not None]
    if drawn:
        usual = np.mean(drawn, axis=0) >= 0.5
        truths = [each.radiograph.outline for each in outlined if each.radiograph.outline is not None]
        beside = [2 * (usual & truth).sum() / max(1, usual.sum() + truth.sum()) for truth in truths]
        figure = figure.model_copy(update={"baseline": float(np.mean(beside))})
    yield figure


def _classes(bundle: LoadedBundle, learned: Sequence[Radiograph], tested: Sequence[_Tested]) -> Iterator[Metric]:
    """AUROC of the bundle's own classes, beside an 8 x 8 thumbnail's."""
    scores = {each.radiograph.sample.key: each.scores for each in tested}
    radiographs = [each.radiograph for each in tested]
    for scored in bundle.manifest.classes:
        question = Question(str(scored.target), str(scored.target))
        asked, taught = question.asked_of(radiographs), question.asked_of(learned)
        if not _enough(question.truth(asked)):
            continue
        truth = question.truth(asked)
        said = np.array([scores[each.sample.key][question.target] for each in asked])
        figure = auroc_metric(f"AUROC {question.target}", np.stack([said, truth], axis=1), _patients(asked))
        if _enough(question.truth(taught)):
            baseline = ThumbnailBaseline(_Labelled.of(taught, question)).scores(_placed(asked))[:, 0]
            beside = auroc(np.stack([baseline, truth], axis=1))
            figure = figure.model_copy(update={"baseline": beside})
        yield figure


def _refused(tested: Sequence[_Tested]) -> Iterator[Metric]:
    patients = _patients([each.radiograph for each in tested])
    yield share("frontal chests refused, share", np.array([each.refused for each in tested]), patients)


def _answered(
    question: Question, bundle: LoadedBundle, learned: Sequence[Radiograph], tested: Sequence[Radiograph]
) -> list[Metric]:
    taught, asked = question.asked_of(learned), question.asked_of(tested)
    if not _enough(question.truth(taught)) or not _enough(question.truth(asked)):
        return []
    return answer(question, bundle, taught, asked)


def _enough(truth: NDArray[np.float64]) -> bool:
    return bool(min((truth == 1).sum(), (truth == 0).sum()) >= _LEAST)


def _patients(radiographs: Sequence[Radiograph]) -> NDArray[np.str_]:
    return np.array([each.sample.patient for each in radiographs], np.str_)


def _placed(radiographs: Sequence[Radiograph]) -> NDArray[np.uint8]:
    return np.stack([each.whole.placed for each in radiographs])


@dataclass(frozen=True, eq=False)
class _Labelled:
    images: NDArray[np.uint8]
    classes: NDArray[np.float32]

    @classmethod
    def of(cls, radiographs: Sequence[Radiograph], question: Question) -> "_Labelled":
        return cls(_placed(radiographs), question.truth(radiographs).astype(np.float32)[:, None])
