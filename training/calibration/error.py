"""How far scores are from observed shares: bins of equal size and the expected calibration error.

Called by calibration.py (the figure) and reliability.py (the bins that its diagrams show).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from schemas.bundle import Metric
from training.evaluation.statistics import patient_resamples

_MOST_BINS = 15
#: A bin with fewer cases says nothing of its share.
_LEAST_IN_BIN = 20
_PERFECT_DRAWS = 200


@dataclass(frozen=True, eq=False)
class Bins:
    """Cases with neighbouring scores, bin by bin: arrays [bins]."""

    counts: NDArray[np.int64]
    #: Mean score, and share of the cases in which it was present, 0..1 (weighted where cases have weights).
    scores: NDArray[np.float64]
    shares: NDArray[np.float64]
    #: Of the bins among each other; they sum to 1.
    weights: NDArray[np.float64]
    #: Standard errors of `shares`.
    errors: NDArray[np.float64]


def bins_of(
    scores: NDArray[np.floating], truth: NDArray[np.floating], weights: NDArray[np.floating] | None = None
) -> Bins:
    """The cases in order of their scores in up to 15 bins of equal size, fewer where one would hold under 20 cases.

    Parameters
    ----------
    scores, truth : [n], n > 0, 0..1 and 1 present, 0 absent
    weights : [n], of the cases (another prevalence than theirs); None: all the same
    """
    order = np.argsort(scores, kind="stable")
    own = np.ones(len(scores)) if weights is None else weights[order]
    count = max(1, min(_MOST_BINS, len(scores) // _LEAST_IN_BIN))
    starts = np.round(np.linspace(0, len(scores), count, endpoint=False)).astype(np.int64)
    totals = np.add.reduceat(own, starts)
    shares = np.add.reduceat(own * truth[order], starts) / totals
    # Kish's effective number of cases, where they have weights.
    effective = totals**2 / np.add.reduceat(own**2, starts)
    return Bins(
        counts=np.diff([*starts, len(scores)]),
        scores=np.add.reduceat(own * scores[order], starts) / totals,
        shares=shares,
        weights=totals / totals.sum(),
        errors=np.sqrt((shares * (1 - shares)).clip(0) / effective),
    )


def expected_calibration_error(
    scores: NDArray[np.floating], truth: NDArray[np.floating], weights: NDArray[np.floating] | None = None
) -> float:
    """Mean over the bins of |mean score - share present|, less what the noise of the shares adds to it; 0..1.

    The noise is taken off as Kumar, Liang and Ma do (Verified uncertainty calibration, NeurIPS 2019): the excess of
    E|d + noise| over |d| in each bin, with normal noise of the share's standard error. About half of it stays where
    scores are perfect (0.02 of 1000 cases), next to nothing where they are not.
    """
    bins = bins_of(scores, truth, weights)
    gaps = np.abs(bins.scores - bins.shares)
    corrected = 2 * gaps - _means_of_folded_normals(gaps, bins.errors)
    return float(np.clip(bins.weights @ corrected, 0.0, 1.0))


def calibration_error_metric(
    name: str,
    scores: NDArray[np.floating],
    truth: NDArray[np.floating],
    patients: NDArray[np.generic],
    weights: NDArray[np.floating] | None = None,
) -> Metric:
    """The expected calibration error with a 95 % interval.

    From resampled patients, whose percentiles are moved so that they centre on the figure: each resampling adds noise,
    and noise adds to the error. Down to 0 where perfectly calibrated scores show as much once in twenty times.
    """
    # In order once, and so are all resamples, which makes ordering them quick.
    order = np.argsort(scores, kind="stable")
    scores, truth, patients = scores[order], truth[order], patients[order]
    weights = None if weights is None else weights[order]
    value = expected_calibration_error(scores, truth, weights)
    draws = [
        expected_calibration_error(scores[rows], truth[rows], None if weights is None else weights[rows])
        for rows in patient_resamples(len(scores), patients)
    ]
    low, high = np.percentile(draws, [2.5, 97.5]) - np.mean(draws) + value
    rng = np.random.default_rng(0)
    perfect = [
        expected_calibration_error(scores, (rng.random(len(scores)) < scores).astype(np.float64))
        for _ in range(_PERFECT_DRAWS)
    ]
    if value <= np.percentile(perfect, 95):
        low = 0.0
    return Metric(
        name=name, value=value, low=float(np.clip(low, 0, value)), high=float(max(high, value)), n=len(scores)
    )


def _means_of_folded_normals(means: NDArray[np.float64], deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """E|mean + deviation * Z| of a standard normal Z, for means from 0 up."""
    spread = np.maximum(deviations, 1e-12)
    ratios = means / spread
    density = np.exp(-(ratios**2) / 2) / np.sqrt(2 * np.pi)
    folded: NDArray[np.float64] = 2 * spread * density + means * (1 - 2 * ndtr(-ratios))
    return folded
