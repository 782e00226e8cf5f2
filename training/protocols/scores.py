"""Macro AUROC and its differences, with intervals by patient. Pure functions; called by grid.py and compare.py."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.statistics import auroc, patient_resamples


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % interval (percentile bootstrap over patients)."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def macro_auroc(scores: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Mean AUROC over the targets of [n, targets] of which present and absent cases are known; NaN without any."""
    areas = []
    for column, of_column in zip(scores.T, truth.T, strict=True):
        known = np.isfinite(of_column)
        areas.append(auroc(np.stack([column[known], of_column[known]], axis=1)))
    finite = [area for area in areas if np.isfinite(area)]
    return float(np.mean(finite)) if finite else float("nan")


def mean_score(scores: NDArray[np.floating], truth: NDArray[np.floating], owners: NDArray[np.str_]) -> Figure:
    """The macro AUROC of scores [draws, n, targets], mean over the draws of labels."""

    def score(rows: NDArray[np.int64]) -> float:
        return float(np.mean([macro_auroc(each[rows], truth[rows]) for each in scores]))

    draws = [score(rows) for rows in patient_resamples(len(truth), owners)]
    return _figure(score(np.arange(len(truth))), draws)


def mean_difference(
    ours: NDArray[np.floating],
    theirs: NDArray[np.floating],
    truth: NDArray[np.floating],
    owners: NDArray[np.str_],
    comparisons: int = 1,
) -> Figure:
    """Macro AUROC of `ours` less that of `theirs`, mean over the draws of labels; the same patients are drawn for both.

    Parameters
    ----------
    ours, theirs : scores [draws, n, targets]
    comparisons : how many such differences are looked at together (Bonferroni's correction of the interval)
    """

    def difference(rows: NDArray[np.int64]) -> float:
        pairs = zip(ours, theirs, strict=True)
        return float(np.mean([macro_auroc(a[rows], truth[rows]) - macro_auroc(b[rows], truth[rows]) for a, b in pairs]))

    draws = [difference(rows) for rows in patient_resamples(len(truth), owners)]
    return _figure(difference(np.arange(len(truth))), draws, comparisons)


def _figure(value: float, draws: list[float], comparisons: int = 1) -> Figure:
    if not np.isfinite(draws).any():
        return Figure(value, float("nan"), float("nan"))
    tail = 2.5 / comparisons
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    return Figure(value, float(low), float(high))
