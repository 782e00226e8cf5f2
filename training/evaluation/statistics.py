"""Figures with their 95 % intervals: percentile bootstrap over images, or over patients where they are known.

Resampling shows no doubt where all cases are alike: shares and AUROCs have intervals with a width there too.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import beta, norm, rankdata

from schemas.bundle import Metric

_RESAMPLES = 1000
#: Two-sided 95 %.
_Z = float(norm.ppf(0.975))
#: As good as 0, for an interval's root.
_TINY = 1e-9


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


def auroc_metric(
    name: str, scores_and_truth: NDArray[np.floating], patients: NDArray[np.generic] | None = None
) -> Metric:
    """AUROC of [n, 2] (score, truth 0 or 1): the bootstrap's interval, but never a narrower one than Newcombe's.

    Where scores separate the two kinds (nearly) completely, resamples do so too, and their interval has (nearly) no
    width. Newcombe's counts patients: those with a present image, and those with an absent one.
    """
    figure = metric(name, scores_and_truth, auroc, patients)
    if not math.isfinite(figure.value):
        return figure
    present = scores_and_truth[:, 1] > 0.5
    of = np.arange(len(present)) if patients is None else patients
    return _widened(figure, *_auroc_interval(figure.value, len(np.unique(of[present])), len(np.unique(of[~present]))))


def sensitivity_metric(name: str, scores_and_truth: NDArray[np.floating]) -> Metric:
    """Sensitivity at 95 % specificity, see `sensitivity_at_specificity`, each row a patient.

    The bootstrap's interval (the threshold is drawn too), but never a narrower one than Clopper and Pearson's of the
    present cases.
    """
    figure = metric(name, scores_and_truth, sensitivity_at_specificity)
    if not math.isfinite(figure.value):
        return figure
    n = int((scores_and_truth[:, 1] > 0.5).sum())
    k = round(figure.value * n)
    low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
    high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    return _widened(figure, low, high)


def sensitivity_at_specificity(scores_and_truth: NDArray[np.floating], specificity: float = 0.95) -> float:
    """Share of present cases above the score that 95 % of the absent ones stay below; of [n, 2] (score, truth)."""
    positive = scores_and_truth[:, 1] > 0.5
    if positive.all() or not positive.any():
        return math.nan
    threshold = np.quantile(scores_and_truth[~positive, 0], specificity)
    return float((scores_and_truth[positive, 0] > threshold).mean())


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


def _auroc_interval(value: float, present: int, absent: int) -> tuple[float, float]:
    """95 % interval of an AUROC of so many `present` and `absent` patients, also of one of 0 or 1.

    Newcombe's method 5 (Statistics in Medicine 2006;25:559-573): the AUROCs whose own standard error, by Hanley and
    McNeil's variance with both sizes replaced by their mean, explains the one that was seen.
    """
    half = (present + absent) / 2 - 1

    def beyond(assumed: float) -> float:
        spread = 1 + half * (1 - assumed) / (2 - assumed) + half * assumed / (1 + assumed)
        return abs(value - assumed) - _Z * math.sqrt(assumed * (1 - assumed) / (present * absent) * spread)

    low = 0.0 if value <= 2 * _TINY else float(brentq(beyond, 0.0, value - _TINY))
    high = 1.0 if value >= 1 - 2 * _TINY else float(brentq(beyond, value + _TINY, 1.0))
    return low, high


def _widened(figure: Metric, low: float, high: float) -> Metric:
    return figure.model_copy(update={"low": min(figure.low, low), "high": max(figure.high, high)})
