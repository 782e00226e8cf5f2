"""From logits to the scores that results state: by each class's calibration, where it has one.

Called by interpretation, tuning and evaluation, so that all of them hold the same number against operating points.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import ScoredClass
from schemas.result import CalibrationReference
from workers.landmark import sigmoid


def class_scores(logits: NDArray[np.floating], classes: Sequence[ScoredClass]) -> NDArray[np.float64]:
    """Scores float64 [..., K] in 0..1 of logits [..., K], in the order of the manifest's `classes`.

    sigmoid(slope * logit + intercept) with a calibration (Platt scaling), the sigmoid of the logit without. Raises
    ValueError when there are not as many logits as classes.
    """
    if logits.shape[-1] != len(classes):
        raise ValueError(f"{logits.shape[-1]} logits for {len(classes)} classes")
    slopes = np.array([1.0 if each.calibration is None else each.calibration.slope for each in classes])
    intercepts = np.array([0.0 if each.calibration is None else each.calibration.intercept for each in classes])
    return sigmoid(np.asarray(logits, np.float64) * slopes + intercepts)


def calibration_reference(scored: ScoredClass | None) -> CalibrationReference | None:
    """What a result says of the class's calibration; None without one."""
    calibration = None if scored is None else scored.calibration
    if calibration is None:
        return None
    return CalibrationReference(
        data=calibration.data, n=calibration.n, prevalence=calibration.prevalence, real=calibration.real
    )
