"""Evaluation on fresh phantoms: every figure of a model card comes from here."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Metric
from schemas.codes import Segment
from training.evaluation.baseline import ThumbnailBaseline
from training.evaluation.statistics import auroc, mean, median, metric, percentile_95
from training.plain.reading import COURSE_TOLERANCE_MM, Reading
from training.plain.targets import CLASSES


def evaluate(readings: Sequence[Reading], baseline: ThumbnailBaseline) -> list[Metric]:
    """All figures with n and 95 % bootstrap intervals over images; AUROCs beside the baseline's.

    A figure that no image defines (no tip located, one class only) is left out.
    """
    figures = [*_classification(readings, baseline), *_tubes(readings), *_anatomy(readings)]
    return [figure for figure in figures if math.isfinite(figure.value) and math.isfinite(figure.low)]


def _classification(readings: Sequence[Reading], baseline: ThumbnailBaseline) -> list[Metric]:
    scores = np.stack([reading.scores for reading in readings])
    truth = np.stack([reading.truth for reading in readings])
    trivial = baseline.scores(np.stack([reading.image for reading in readings]))
    metrics = []
    for index, target in enumerate(CLASSES):
        applies = np.isfinite(truth[:, index])
        samples = np.stack([scores[applies, index], truth[applies, index]], axis=1)
        figure = metric(f"AUROC {target}", samples, auroc)
        beside = auroc(np.stack([trivial[applies, index], truth[applies, index]], axis=1))
        metrics.append(figure.model_copy(update={"baseline": None if math.isnan(beside) else beside}))
    return metrics


def _tubes(readings: Sequence[Reading]) -> list[Metric]:
    tubes = [reading for reading in readings if reading.has_tube]
    tip = _column([reading.tip_error_mm for reading in tubes])
    distance = _located([reading.distance_error_mm for reading in tubes])
    course = _column([reading.course_recall for reading in tubes])
    bad = _column([reading.called_abnormal for reading in tubes if reading.malpositioned])
    good = _column([not reading.called_abnormal for reading in tubes if not reading.malpositioned])
    return [
        metric("tube tip located, share of tubes", np.isfinite(tip).astype(np.float64), mean),
        metric("tube tip error, median mm", tip[np.isfinite(tip)], median),
        metric("tube tip error, 95th percentile mm", tip[np.isfinite(tip)], percentile_95),
        metric("tip to carina error, median mm", distance, median),
        metric("tip to carina error, 95th percentile mm", distance, percentile_95),
        metric(f"tube course traced within {COURSE_TOLERANCE_MM:g} mm, mean share", course, mean),
        metric("malpositioned tube called abnormal, sensitivity", bad, mean),
        metric("malpositioned tube called abnormal, specificity among tubes", good, mean),
    ]


def _anatomy(readings: Sequence[Reading]) -> list[Metric]:
    carina = _column([reading.carina_error_mm for reading in readings])
    dice = [
        metric(f"Dice {segment}, mean", _column([reading.dice[segment] for reading in readings]), mean)
        for segment in (Segment.RIGHT_LUNG, Segment.LEFT_LUNG, Segment.HEART)
    ]
    return [
        metric("carina located, share", np.isfinite(carina).astype(np.float64), mean),
        metric("carina error, median mm", carina[np.isfinite(carina)], median),
        metric("carina error, 95th percentile mm", carina[np.isfinite(carina)], percentile_95),
        *dice,
    ]


def _column(values: Sequence[float]) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def _located(values: Sequence[float]) -> NDArray[np.float64]:
    column = _column(values)
    return column[np.isfinite(column)]
