"""Where a landmark's heat map peaks: for the tube tip and the carina, in results and in evaluation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A landmark is located when the heat map's peak (sigmoid, 0..1) reaches this. A heat map of an uncertain landmark is
#: low and wide; a wrong point is worse than none, because a distance would be read off it.
LOCATED_FROM = 0.3
#: The logit of "surely not": what cells beside the image are set to before anything is located.
NOWHERE = np.float32(-20.0)
#: Cells around the peak that the centroid looks at.
_RADIUS = 4


@dataclass(frozen=True)
class Peak:
    """A located landmark, in the model's input: x = column, y = row, (0, 0) = its top left corner."""

    x: float
    y: float
    #: The heat map's value there (sigmoid), LOCATED_FROM..1.
    score: float


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 / (1 + exp(-logits)), float64, without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, np.float64)))


def locate(heat: NDArray[np.floating], stride: int) -> Peak | None:
    """The peak of a heat map of logits [H, W], `stride` model pixels per cell; None when it is weak.

    The position is the centroid of what rises above half the peak in its neighbourhood. Weights that begin at zero
    keep it from jumping when a cell passes the threshold.
    """
    row, column = np.unravel_index(int(np.argmax(heat)), heat.shape)
    top, left = max(int(row) - _RADIUS, 0), max(int(column) - _RADIUS, 0)
    near = sigmoid(heat[top : int(row) + _RADIUS + 1, left : int(column) + _RADIUS + 1])
    score = float(near.max())
    if score < LOCATED_FROM:
        return None
    weights = np.clip(near - score / 2, 0.0, None)
    rows, columns = np.indices(near.shape)
    total = float(weights.sum())
    x = left + float((weights * columns).sum()) / total
    y = top + float((weights * rows).sum()) / total
    return Peak((x + 0.5) * stride, (y + 0.5) * stride, score)
