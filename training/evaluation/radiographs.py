"""Evaluation on radiographs that nothing was trained on: lungs, and questions that a small probe asks of the features.

Curation has taken corners and letters away (training/curation). Intervals are over patients. Beside each question
stand what the image's size alone and an 8 x 8 thumbnail answer, and the paired difference to the thumbnail. Called by
benchmarks/real_images.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from schemas.bundle import Manifest, Metric
from schemas.codes import Segment
from training.evaluation.seeing import look, seen
from training.evaluation.statistics import auroc, mean, metric
from training.sources.source import Sample
from workers.bundle import normalised
from workers.networks.network import Network

_LUNGS = (Segment.RIGHT_LUNG, Segment.LEFT_LUNG)
_THUMBNAIL = 8
#: Of a lung box, so much more on every side.
_MARGIN = 0.05
_CROP_SIDE = 512
#: Strength of a probe's penalty (1 / C). On features: hundreds of cases against hundreds of numbers. Size and thumbnail
#: get the one at which they say most: at that of the features a thumbnail says 0.93 of kermany where it can say 0.955.
_PENALTIES = {"features": 0.01, "thumbnails": 1.0, "sizes": 1.0}

Grey = NDArray[np.float32]
Column = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """What is asked of each image: a target of its labels, of the whole image or of its lungs alone."""

    name: str
    target: str
    #: A square crop of the lung box with a random aspect, so that neither size nor shape of the film answers.
    lungs_only: bool = False


def lung_dice(network: Network, manifest: Manifest, samples: Sequence[Sample], progress: Progress) -> list[Metric]:
    """Dice of both lungs together, per source, of the samples that have a lung mask."""
    outlined = [sample for sample in samples if "lungs" in sample.masks]
    task = progress.add_task("Lungs", total=len(outlined))
    dice: dict[str, list[tuple[str, float]]] = {}
    for sample in outlined:
        image = sample.read()
        truth = sample.masks["lungs"].read(*image.shape)
        found = _lungs(network, manifest, image)
        score = float(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))
        dice.setdefault(sample.source, []).append((sample.patient, score))
        progress.advance(task)
    return [
        metric(
            f"Dice lungs, {source}, mean",
            np.array([score for _, score in found]),
            mean,
            np.array([patient for patient, _ in found]),
        )
        for source, found in dice.items()
    ]


def answer(
    question: Question,
    network: Network,
    manifest: Manifest,
    learning: Sequence[Sample],
    test: Sequence[Sample],
    progress: Progress,
) -> list[Metric]:
    """AUROC on `test` of a probe on the network's features, of size and of thumbnail, all fitted on `learning`.

    No patient is in both. The last figure is the probe's AUROC less the thumbnail's, by paired bootstrap.
    """
    task = progress.add_task(question.name, total=len(learning) + len(test))
    fitted = _described(question, network, manifest, learning, lambda: progress.advance(task))
    asked = _described(question, network, manifest, test, lambda: progress.advance(task))
    truth = asked.truth
    said = {
        name: _probe(getattr(fitted, name), fitted.truth, penalty).decision_function(getattr(asked, name))
        for name, penalty in _PENALTIES.items()
    }
    patients = asked.patients
    thumbnail = _auroc(said["thumbnails"], truth)
    figures = [
        metric(f"AUROC {question.name}, probe of features", _pair(said["features"], truth), auroc, patients),
        metric(f"AUROC {question.name}, 8 x 8 thumbnail", _pair(said["thumbnails"], truth), auroc, patients),
        metric(f"AUROC {question.name}, size of the film alone", _pair(said["sizes"], truth), auroc, patients),
        metric(
            f"AUROC {question.name}, features less thumbnail",
            np.stack([said["features"], said["thumbnails"], truth], axis=1),
            lambda rows: auroc(rows[:, [0, 2]]) - auroc(rows[:, [1, 2]]),
            patients,
        ),
    ]
    return [figures[0].model_copy(update={"baseline": thumbnail}), *figures[1:]]


@dataclass(frozen=True, eq=False)
class _Described:
    """n images as numbers."""

    features: Column
    thumbnails: Column
    sizes: Column
    truth: Column
    patients: NDArray[np.str_]


def _described(
    question: Question,
    network: Network,
    manifest: Manifest,
    samples: Sequence[Sample],
    advance: Callable[[], None],
) -> _Described:
    features, thumbnails, sizes, truth, patients = [], [], [], [], []
    for number, sample in enumerate(samples):
        advance()
        if question.target not in sample.labels:
            continue
        image = sample.read()
        rows, columns = image.shape
        if question.lungs_only:
            box = _lung_box(network, manifest, image, sample)
            if box is None:
                continue
            image = _square(image, box, np.random.default_rng([number, 5]))
        placed = seen(image, manifest)
        features.append(_features(network, manifest, placed.image))
        thumbnails.append(_thumbnail(image))
        sizes.append([rows, columns, rows / columns])
        truth.append(float(sample.labels[question.target] > 0.5))
        patients.append(sample.patient)
    return _Described(
        features=np.array(features, np.float64),
        thumbnails=np.array(thumbnails, np.float64),
        sizes=np.array(sizes, np.float64),
        truth=np.array(truth, np.float64),
        patients=np.array(patients, np.str_),
    )


def _features(network: Network, manifest: Manifest, image: NDArray[np.uint8]) -> Column:
    """Class tokens and mean patch tokens of the last blocks, and the logits."""
    with torch.inference_mode():
        given = network.backbone(normalised(image[None], manifest.preprocessing))
        logits = network.heads(given).logits
    parts = [given.cls[-1], given.patches[-1].mean(dim=1), logits]
    return np.concatenate([part[0].double().numpy() for part in parts])


def _lungs(network: Network, manifest: Manifest, image: Grey) -> NDArray[np.bool_]:
    """Both lungs as the network outlines them, bool of the image's shape; whatever it thinks of the image."""
    whole = seen(image, manifest)
    output = look(network, manifest, whole)
    masks = [
        whole.placement.upsample_mask(output.dense[manifest.channels.index(lung)].astype(np.float32)) for lung in _LUNGS
    ]
    both: NDArray[np.bool_] = masks[0] | masks[1]
    return both


def _lung_box(network: Network, manifest: Manifest, image: Grey, sample: Sample) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom: of the mask that somebody drew, else of the network's; None: no lungs."""
    lungs = sample.masks["lungs"].read(*image.shape) if "lungs" in sample.masks else _lungs(network, manifest, image)
    rows, columns = np.nonzero(lungs)
    if not len(rows):
        return None
    margin = round(_MARGIN * max(image.shape))
    return (
        max(0, int(columns.min()) - margin),
        max(0, int(rows.min()) - margin),
        min(image.shape[1], int(columns.max()) + margin),
        min(image.shape[0], int(rows.max()) + margin),
    )


def _square(image: Grey, box: tuple[int, int, int, int], rng: np.random.Generator) -> Grey:
    """The box as a square, of which up to a tenth is cut off at random sides: its own shape is gone."""
    left, top, right, bottom = box
    cut = rng.uniform(0, 0.1, 4) * [right - left, bottom - top, right - left, bottom - top]
    resized = Image.fromarray(image).resize(
        (_CROP_SIDE, _CROP_SIDE),
        Image.Resampling.BILINEAR,
        (left + cut[0], top + cut[1], right - cut[2], bottom - cut[3]),
    )
    return np.asarray(resized)


def _thumbnail(image: Grey) -> Column:
    small = Image.fromarray(image).resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, np.float64).ravel()


def _probe(rows: Column, truth: Column, penalty: float) -> Pipeline:
    probe: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=2000))
    return probe.fit(rows, truth)


def _pair(scores: Column, truth: Column) -> Column:
    return np.stack([scores, truth], axis=1)


def _auroc(scores: Column, truth: Column) -> float:
    return auroc(_pair(scores, truth))
