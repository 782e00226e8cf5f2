"""From which score on a finding is called present; chosen on validation data, never on those of the evaluation."""

import math

import numpy as np
from numpy.typing import NDArray

from training.evaluation.statistics import auroc, metric


def choose_operating_point(scores: NDArray[np.floating], truth: NDArray[np.floating]) -> float | None:
    """The score in 0.01..0.99 with the greatest sensitivity + specificity - 1 (Youden's J).

    None when the 95 % interval of the AUROC on these images reaches down to chance: calling it would be noise on a
    worklist, and calling it absent would be no better.

    Parameters
    ----------
    scores : [n], 0..1
    truth : [n], 1 present, 0 absent, NaN not applicable. With one class only there is nothing to choose: 0.5.
    """
    applies = np.isfinite(truth)
    scores, positive = scores[applies], truth[applies] > 0.5
    if positive.all() or not positive.any():
        return 0.5
    if metric("AUROC", np.stack([scores, positive], axis=1), auroc).low <= 0.5:
        return None
    # Halfway between neighbouring scores, so that no image sits on the threshold.
    ordered = np.unique(scores)
    candidates = np.concatenate([[ordered[0]], (ordered[1:] + ordered[:-1]) / 2])
    called = scores[None, :] >= candidates[:, None]
    youden = called[:, positive].mean(axis=1) - called[:, ~positive].mean(axis=1)
    return float(np.clip(candidates[np.argmax(youden)], 0.01, 0.99))


def point_of_sensitivity(scores: NDArray[np.floating], truth: NDArray[np.floating], sensitivity: float) -> float | None:
    """The score with at least this `sensitivity` on these cases, and the greatest specificity that then follows.

    Halfway between the lowest case that is called present and the highest absent one below it, so that whatever
    sensitivity costs no specificity is taken too. None without a present case.

    Parameters
    ----------
    scores, truth : [n], 0..1 and 1 present, 0 absent
    sensitivity : above 0, at most 1
    """
    present = np.sort(scores[truth > 0.5])[::-1]
    if not len(present):
        return None
    # Less a hair, or 0.9 of 10 becomes 10 of 10 by rounding.
    last_called = present[math.ceil(sensitivity * len(present) - 1e-9) - 1]
    below = scores[(truth <= 0.5) & (scores < last_called)]
    if not len(below):
        return float(present[-1])
    return float((below.max() + present[present > below.max()].min()) / 2)
