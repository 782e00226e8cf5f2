"""The centre line and the tip of a tube, from the dense head's course mask and tip heat map together.

A tube runs down the film, so its course is the best-scoring downward path through the mask (dynamic programming, one
row at a time). A path bridges the gaps that ribs and clips tear into a mask, and the tip's heat map has its say in
where it ends.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.landmark import Peak, locate, sigmoid

#: No polyline has more points: SCOORD and every viewer take 64 easily.
MAXIMUM_POINTS = 64

#: Course logits beyond these count no more. The lower one is the price of a row of gap, the upper one the gain of a
#: row of tube: a gap is bridged when about as many rows of tube lie beyond it.
LOGIT_RANGE = (-3.0, 4.0)
#: The tip's logits, clipped, weigh as this many rows: a sure tip bridges a gap of about 12 rows (-6 to 6 = 36 / 3).
TIP_RANGE = (-6.0, 6.0)
_TIP_WEIGHT = 3.0
#: A path moves at most this many cells sideways per row (63 degrees: the left main bronchus), at a price each.
_MAXIMUM_STEP = 2
_STEP_PRICE = 0.5
#: The tip is looked for so many cells around the end of the path.
_TIP_RADIUS = 4
#: Fewer rows or cells of mask are a speck and no course.
LEAST_CELLS = 3
#: Cells beside the path that the centre of a row is taken over: half a tube of 13 mm, tilted, at 2.5 mm per cell.
_HALF_WIDTH = 4
_SMOOTHED_ROWS = 5
#: How far the simplified line may leave the traced one, in model pixels.
_TOLERANCE = 0.5

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TubeCourse:
    """What was traced, in the model's input: x = column, y = row, (0, 0) = its top left corner."""

    #: float64 [N, 2], N <= 64, from the upper end to the tip (to the end of the mask where there is no tip);
    #: N = 0 when there is no course.
    points: Points
    #: None when the heat map is weak where the course ends.
    tip: Peak | None
    #: The highest score of the course map (sigmoid, 0..1) on the traced line; of all of it where nothing was traced.
    score: float


def trace_tube(course: NDArray[np.float32], tip: NDArray[np.float32], stride: int) -> TubeCourse:
    """Trace a tube. `course` and `tip` are logits float32 [H, W] with `stride` model pixels per cell."""
    mask = np.clip(course, *LOGIT_RANGE)
    scores, steps = _best_paths(mask)
    ends = scores + _TIP_WEIGHT * np.clip(tip, *TIP_RANGE)
    row, column = (int(index) for index in np.unravel_index(int(np.argmax(ends)), ends.shape))
    peak = tip_near(tip, row, column, stride)

    path = _follow(steps, row, column)
    rows = np.arange(row - len(path) + 1, row + 1)
    on_tube = np.flatnonzero(course[rows, path] > 0)
    if len(on_tube) < LEAST_CELLS:
        return TubeCourse(np.empty((0, 2)), peak, float(sigmoid(course.max())))
    rows, path = rows[: on_tube[-1] + 1], path[: on_tube[-1] + 1]
    score = float(sigmoid(course[rows, path].max()))
    centres = smoothed(_row_centres(mask, rows, path))
    points = (np.column_stack([centres, rows]) + 0.5) * stride
    if peak is not None:
        # The last row before the tip would only bend the line: the tip is known better than the mask's end.
        points = np.vstack([points[points[:, 1] < peak.y - stride], [peak.x, peak.y]])
    return TubeCourse(simplified(points), peak, score)


def _best_paths(mask: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """For each cell the score of the best path that ends there, and the step from the row above (127: starts here)."""
    height, width = mask.shape
    scores = np.empty_like(mask)
    steps = np.full(mask.shape, 127, np.int8)
    before = np.zeros(width, np.float32)
    shifts = range(-_MAXIMUM_STEP, _MAXIMUM_STEP + 1)
    for row in range(height):
        padded = np.pad(before, _MAXIMUM_STEP, constant_values=-np.inf)
        candidates = np.stack(
            [padded[_MAXIMUM_STEP + s : _MAXIMUM_STEP + s + width] - _STEP_PRICE * abs(s) for s in shifts]
        )
        best = np.argmax(candidates, axis=0)
        gain = np.take_along_axis(candidates, best[None], axis=0)[0]
        continues = gain > 0
        steps[row, continues] = best[continues] - _MAXIMUM_STEP
        before = scores[row] = mask[row] + np.where(continues, gain, 0)
    return scores, steps


def _follow(steps: NDArray[np.int8], row: int, column: int) -> NDArray[np.intp]:
    """Columns of the path that ends in (row, column), from its first row down."""
    columns = [column]
    while steps[row, column] != 127:
        column += int(steps[row, column])
        row -= 1
        columns.append(column)
    return np.array(columns[::-1], np.intp)


def tip_near(tip: NDArray[np.float32], row: int, column: int, stride: int) -> Peak | None:
    """The peak of the tip's heat map around a cell; None when it is weak there."""
    top, left = max(row - _TIP_RADIUS, 0), max(column - _TIP_RADIUS, 0)
    peak = locate(tip[top : row + _TIP_RADIUS + 1, left : column + _TIP_RADIUS + 1], stride)
    return None if peak is None else Peak(peak.x + left * stride, peak.y + top * stride, peak.score)


def _row_centres(mask: NDArray[np.float32], rows: NDArray[np.intp], path: NDArray[np.intp]) -> NDArray[np.float64]:
    """The mask's centre of gravity in each row near the path, in cells; in a gap the path itself."""
    width = mask.shape[1]
    columns = path[:, None] + np.arange(-_HALF_WIDTH, _HALF_WIDTH + 1)
    weights = 1.0 / (1.0 + np.exp(-mask[rows[:, None], np.clip(columns, 0, width - 1)].astype(np.float64)))
    weights[(columns < 0) | (columns >= width)] = 0
    # Only what is more tube than not: the tail of a background of -3 (5 % each) would pull to the window's middle.
    weights = np.clip(weights - 0.5, 0, None)
    total = weights.sum(axis=1)
    return np.where(total > 0, (weights * columns).sum(axis=1) / np.maximum(total, 1e-9), path)


def smoothed(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moving average; the odd reflection at the ends leaves a straight line as it is."""
    reach = min(_SMOOTHED_ROWS // 2, len(centres) - 1)
    padded = np.pad(centres, reach, mode="reflect", reflect_type="odd")
    return np.convolve(padded, np.full(2 * reach + 1, 1.0 / (2 * reach + 1)), mode="valid")


def simplified(points: Points) -> Points:
    """Douglas-Peucker with _TOLERANCE, or as much more as MAXIMUM_POINTS needs."""
    tolerance = _TOLERANCE
    while True:
        kept = np.zeros(len(points), bool)
        kept[[0, -1]] = True
        _keep_corners(points, 0, len(points) - 1, tolerance, kept)
        if kept.sum() <= MAXIMUM_POINTS:
            return points[kept]
        tolerance *= 1.5


def _keep_corners(points: Points, first: int, last: int, tolerance: float, kept: NDArray[np.bool_]) -> None:
    if last - first < 2:
        return
    chord = points[last] - points[first]
    away = points[first + 1 : last] - points[first]
    distance = np.abs(chord[0] * away[:, 1] - chord[1] * away[:, 0]) / max(float(np.hypot(*chord)), 1e-9)
    farthest = int(np.argmax(distance))
    if distance[farthest] > tolerance:
        corner = first + 1 + farthest
        kept[corner] = True
        _keep_corners(points, first, corner, tolerance, kept)
        _keep_corners(points, corner, last, tolerance, kept)
