"""From which score on a finding is called present; chosen on validation data, never on those of the evaluation."""

import math

import numpy as np
from numpy.typing import NDArray


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
