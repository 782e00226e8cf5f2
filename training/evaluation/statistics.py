"""Figures with their 95 % intervals: percentile bootstrap over images, or over patients where they are known."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, rankdata

from schemas.bundle import Metric

_RESAMPLES = 1000


def metric(
    name: str,
    samples: NDArray[np.floating],
    statistic: Callable[[NDArray[np.floating]], float],
    patients: NDArray[np.generic] | None = None,
) -> Metric:
    """`statistic` of the samples [n, ...] (one row per image) with a bootstrap interval; NaN figures where n is 0.

    `patients` [n], of any type that sorts: whole patients are drawn, so that several images of one do not narrow the
    interval. None: each image is another patient.
    """
    if not len(samples):
        return Metric(name=name, value=math.nan, low=math.nan, high=math.nan, n=0)
    draws = [statistic(samples[rows]) for rows in patient_resamples(len(samples), patients)]
    low, high = np.nanpercentile(draws, [2.5, 97.5]) if np.isfinite(draws).any() else (math.nan, math.nan)
    return Metric(name=name, value=statistic(samples), low=float(low), high=float(high), n=len(samples))


def share(name: str, right: NDArray[np.bool_], patients: NDArray[np.generic] | None = None) -> Metric:
    """Share of `right` [n] with an interval also where all or none are: resampling what is all alike shows no doubt.

    There Clopper and Pearson's interval, each patient one case (Biometrika 1934;26:404-413).
    """
    figure = metric(name, right.astype(np.float64), mean, patients)
    if not len(right) or figure.low < figure.high:
        return figure
    count = len(right) if patients is None else len(np.unique(patients))
    low, high = (beta.ppf(0.025, count, 1), 1.0) if figure.value > 0.5 else (0.0, beta.ppf(0.975, 1, count))
    return figure.model_copy(update={"low": float(low), "high": float(high)})


def patient_resamples(n: int, patients: NDArray[np.generic] | None = None) -> Iterator[NDArray[np.int64]]:
    """Rows of 1000 bootstrap resamples of n rows: whole patients are drawn where `patients` [n] names them."""
    rng = np.random.default_rng(0)
    _, patient = np.unique(np.arange(n) if patients is None else patients, return_inverse=True)
    rows, count = np.arange(n), int(patient.max()) + 1
    for _ in range(_RESAMPLES):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        yield np.repeat(rows, times[patient])


def auroc(scores_and_truth: NDArray[np.floating]) -> float:
    """Area under the ROC curve of [n, 2] (score, truth 0 or 1); NaN when one of the classes is missing."""
    positive = scores_and_truth[:, 1] > 0.5
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return math.nan
    ranks = rankdata(scores_and_truth[:, 0])
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def mean(values: NDArray[np.floating]) -> float:
    return float(np.mean(values))


def median(values: NDArray[np.floating]) -> float:
    return float(np.median(values))


def percentile_95(values: NDArray[np.floating]) -> float:
    return float(np.percentile(values, 95))
