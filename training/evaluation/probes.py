"""Questions that a small probe asks of a bundle's frozen features, beside what size and thumbnail of the film answer.

Called by radiographs.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from schemas.bundle import Metric
from training.evaluation.radiograph import Picture, Radiograph
from training.evaluation.statistics import auroc, auroc_metric, metric
from training.sources.source import View
from workers.bundle import LoadedBundle, normalised

#: Strength of a probe's penalty (1 / C). On features: hundreds of cases against hundreds of numbers. Size and thumbnail
#: get the one at which they say most: at that of the features a thumbnail says 0.93 of kermany where it can say 0.955.
_FEATURES, _THUMBNAILS, _SIZES = 0.01, 1.0, 1.0

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """What is asked of each radiograph: a target of its labels, of the whole image or of its lungs alone."""

    name: str
    target: str
    #: A square crop of the lung box with a random aspect, so that neither size nor shape of the film answers.
    lungs_only: bool = False
    #: Of films of this view alone.
    view: View | None = None

    def asked_of(self, radiographs: Sequence[Radiograph]) -> list[Radiograph]:
        """Those that the question can be asked of and whose answer is known."""
        return [
            each
            for each in radiographs
            if self.target in each.sample.labels
            and (self.view is None or each.sample.view == self.view)
            and (not self.lungs_only or each.lungs)
        ]

    def truth(self, radiographs: Sequence[Radiograph]) -> Column:
        """1 present, 0 absent, float64 [n]."""
        return np.array([each.sample.labels[self.target] > 0.5 for each in radiographs], np.float64)


def answer(
    question: Question, bundle: LoadedBundle, learned: Sequence[Radiograph], asked: Sequence[Radiograph]
) -> list[Metric]:
    """AUROC on `asked` of a probe on the bundle's features, of size and of thumbnail, all fitted on `learned`.

    Both are of those that the question is asked of, and no patient is in both. The last two figures are the probe's
    AUROC less the thumbnail's and less the size's, by paired bootstrap of patients.
    """
    truth, known = question.truth(asked), question.truth(learned)
    patients = np.array([each.sample.patient for each in asked])

    def said(learned_rows: Column, asked_rows: Column, penalty: float) -> Column:
        """The mean score of the pictures of each film, of rows float64 [films, pictures, numbers]."""
        count = learned_rows.shape[1]
        probe: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=2000))
        # All pictures of a film together are one case.
        weights = np.full(len(known) * count, 1 / count)
        probe.fit(_flat(learned_rows), np.repeat(known, count), logisticregression__sample_weight=weights)
        scores: Column = probe.decision_function(_flat(asked_rows)).reshape(len(truth), -1).mean(axis=1)
        return scores

    pictures, beside = ([_pictures(question, each) for each in part] for part in (learned, asked))
    features = said(_features(bundle, pictures), _features(bundle, beside), _FEATURES)
    thumbnails = said(_thumbnails(pictures), _thumbnails(beside), _THUMBNAILS)
    sizes = said(_sizes(learned), _sizes(asked), _SIZES)

    def figure(words: str, scores: Column) -> Metric:
        return auroc_metric(f"AUROC {question.name}, {words}", np.stack([scores, truth], axis=1), patients)

    def less(words: str, other: Column) -> Metric:
        return metric(
            f"AUROC {question.name}, features less {words}",
            np.stack([features, other, truth], axis=1),
            lambda rows: auroc(rows[:, [0, 2]]) - auroc(rows[:, [1, 2]]),
            patients,
        )

    trivial = figure("8 x 8 thumbnail", thumbnails)
    return [
        figure("probe of features", features).model_copy(update={"baseline": trivial.value}),
        trivial,
        figure("size of the film alone", sizes),
        less("thumbnail", thumbnails),
        less("size", sizes),
    ]


def _pictures(question: Question, radiograph: Radiograph) -> Sequence[Picture]:
    """As many of each radiograph."""
    return radiograph.lungs if question.lungs_only else [radiograph.whole]


def _features(bundle: LoadedBundle, films: Sequence[Sequence[Picture]]) -> Column:
    """Class tokens and mean patch tokens of the last blocks, and the logits; float64 [films, pictures, features]."""
    rows = []
    for pictures in films:
        placed = np.stack([each.placed for each in pictures])
        with torch.inference_mode():
            given = bundle.network.backbone(normalised(placed, bundle.manifest.preprocessing))
            logits = bundle.network.heads(given).logits
        rows.append(torch.cat([given.cls[-1], given.patches[-1].mean(dim=1), logits], dim=1).double().numpy())
    return np.stack(rows)


def _thumbnails(films: Sequence[Sequence[Picture]]) -> Column:
    return np.stack([[each.thumbnail for each in pictures] for pictures in films])


def _sizes(radiographs: Sequence[Radiograph]) -> Column:
    return np.array([[[each.rows, each.columns, each.rows / each.columns]] for each in radiographs], np.float64)


def _flat(rows: Column) -> Column:
    return rows.reshape(-1, rows.shape[-1])
