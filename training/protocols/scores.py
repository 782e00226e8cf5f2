"""Macro AUROC and its differences, with intervals by patient. Pure functions; called by grid.py and compare.py."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.statistics import patient_resamples

#: Resamples that are computed at once: of 10,000 images 80 MB.
_AT_ONCE = 125


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
    return float(_macro(scores, truth, np.ones((1, len(truth))))[0])


def mean_score(scores: NDArray[np.floating], truth: NDArray[np.floating], owners: NDArray[np.str_]) -> Figure:
    """The macro AUROC of scores [draws, n, targets], mean over the draws of labels."""
    return _figure(_means(scores, truth, owners))


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
    return _figure(_means(ours, truth, owners) - _means(theirs, truth, owners), comparisons)


def _means(scores: NDArray[np.floating], truth: NDArray[np.floating], owners: NDArray[np.str_]) -> NDArray[np.float64]:
    """Macro AUROC over the draws: of the cases themselves, then of each resample."""
    times = [np.ones(len(truth))]
    times += [
        np.bincount(rows, minlength=len(truth)).astype(np.float64) for rows in patient_resamples(len(truth), owners)
    ]
    parts = [np.stack(times[start : start + _AT_ONCE]) for start in range(0, len(times), _AT_ONCE)]
    means: NDArray[np.float64] = np.mean(
        [np.concatenate([_macro(s, truth, part) for part in parts]) for s in scores], axis=0
    )
    return means


def _macro(
    scores: NDArray[np.floating], truth: NDArray[np.floating], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Macro AUROC [resamples] of scores [n, targets], each case taken `times` [resamples, n]."""
    areas = np.stack([_areas(*columns, times) for columns in zip(scores.T, truth.T, strict=True)])
    known = np.isfinite(areas)
    with np.errstate(invalid="ignore"):
        macro: NDArray[np.float64] = np.where(known, areas, 0).sum(axis=0) / known.sum(axis=0)
    return macro


def _areas(
    scores: NDArray[np.floating], truth: NDArray[np.floating], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """AUROC [resamples] of one target: how often a present case scores higher than an absent one, ties count half."""
    order = np.argsort(scores, kind="stable")
    order = order[np.isfinite(truth[order])]
    present = times[:, order] * (truth[order] > 0.5)
    absent = times[:, order] - present
    below = np.cumsum(absent, axis=1)
    # Of equal scores the first and the last place.
    first = np.searchsorted(scores[order], scores[order], side="left")
    last = np.searchsorted(scores[order], scores[order], side="right") - 1
    before = np.where(first > 0, below[:, np.maximum(first - 1, 0)], 0)
    won = (present * (before + below[:, last]) / 2).sum(axis=1)
    with np.errstate(invalid="ignore"):
        areas: NDArray[np.float64] = won / (present.sum(axis=1) * absent.sum(axis=1))
    return areas


def _figure(values: NDArray[np.float64], comparisons: int = 1) -> Figure:
    """Of a value and its resamples."""
    value, resamples = float(values[0]), values[1:]
    if not np.isfinite(resamples).any():
        return Figure(value, float("nan"), float("nan"))
    tail = 2.5 / comparisons
    low, high = np.nanpercentile(resamples, [tail, 100 - tail])
    return Figure(value, float(low), float(high))
