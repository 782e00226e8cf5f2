"""The centre line and the tip of a line that runs anywhere: a central venous catheter, a nasogastric tube.

Unlike a tube in the trachea (workers/tube_course.py) these also run across the film, and turn back in the stomach. So
the course is the cheapest path over cells of the course map, from the tip to where most of the line lies behind it.
"""

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.landmark import Peak, sigmoid
from workers.tube_course import LEAST_CELLS, LOGIT_RANGE, TIP_RANGE, TubeCourse, simplified, smoothed, tip_near

#: A step on the plainest course costs this much, so that of two ways over it the shorter is taken.
_STEP_COST = 0.2
#: What a step costs more per logit under the plainest: keeps the path in the middle of the mask.
_RIDGE_COST = 0.1
#: The widest gap that is bridged, logits: about twelve cells, as workers/tube_course.py does for a sure tip.
_WIDEST_GAP = 36.0
#: A tip counts where the course comes so near to it, cells.
_TIP_RADIUS = 2
_NEIGHBOURS = [(dy, dx, math.hypot(dy, dx)) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]

_Cell = tuple[int, int]


def trace_line(course: NDArray[np.float32], tip: NDArray[np.float32], stride: int) -> TubeCourse:
    """Trace a line. `course` and `tip` are logits float32 [H, W] with `stride` model pixels per cell.

    Its points run from where it comes in to the tip; from the upper end to the lower where the tip is not located.
    """
    score = float(sigmoid(course.max()))
    peak = _tip(course, tip, stride)
    if peak is not None:
        path = _path_from(course, (int(peak.y / stride), int(peak.x / stride)))[::-1]
    else:
        top, left = np.unravel_index(int(np.argmax(course)), course.shape)
        path = _path_from(course, _path_from(course, (int(top), int(left)))[-1])
        path = path if path[0][0] <= path[-1][0] else path[::-1]
    cells = np.array(path)
    on_line = course[cells[:, 0], cells[:, 1]]
    if np.count_nonzero(on_line > 0) < LEAST_CELLS:
        return TubeCourse(np.empty((0, 2)), peak, score)
    line = np.column_stack([smoothed(cells[:, 1].astype(np.float64)), smoothed(cells[:, 0].astype(np.float64))])
    points = (line + 0.5) * stride
    if peak is not None:
        points[-1] = [peak.x, peak.y]
    return TubeCourse(simplified(points), peak, float(sigmoid(on_line.max())))


def _tip(course: NDArray[np.float32], tip: NDArray[np.float32], stride: int) -> Peak | None:
    """The place that is most like a tip and has course beside it; None when the heat map is weak there."""
    near = np.full_like(course, -np.inf)
    padded = np.pad(np.clip(course, *LOGIT_RANGE), _TIP_RADIUS, constant_values=LOGIT_RANGE[0])
    height, width = course.shape
    for dy in range(2 * _TIP_RADIUS + 1):
        for dx in range(2 * _TIP_RADIUS + 1):
            np.maximum(near, padded[dy : dy + height, dx : dx + width], out=near)
    row, column = np.unravel_index(int(np.argmax(near + np.clip(tip, *TIP_RANGE))), course.shape)
    return tip_near(tip, int(row), int(column), stride)


@dataclass(frozen=True, order=True)
class _Reached:
    before: _Cell | None
    #: Sum of clipped logits on the way here: the line that lies behind, less its gaps.
    gain: float
    #: Of the gap that it is in.
    gap: float


def _path_from(course: NDArray[np.float32], start: _Cell) -> list[_Cell]:
    """Cells from `start` to where the most line lies behind (Dijkstra's algorithm over the eight neighbours)."""
    gains = np.clip(course, *LOGIT_RANGE).astype(np.float64)
    costs = _STEP_COST + np.clip(-gains, 0, None) + _RIDGE_COST * (LOGIT_RANGE[1] - gains)
    height, width = course.shape
    start = min(max(start[0], 0), height - 1), min(max(start[1], 0), width - 1)
    reached: dict[_Cell, _Reached] = {}
    waiting = [(0.0, start, _Reached(None, 0.0, 0.0))]
    best = start
    while waiting:
        cost, cell, way = heapq.heappop(waiting)
        if cell in reached:
            continue
        reached[cell] = way
        if way.gain > reached[best].gain:
            best = cell
        for dy, dx, length in _NEIGHBOURS:
            there = cell[0] + dy, cell[1] + dx
            if there in reached or not (0 <= there[0] < height and 0 <= there[1] < width):
                continue
            gain = length * gains[there]
            gap = 0.0 if gain > 0 else way.gap - gain
            if gap <= _WIDEST_GAP:
                heapq.heappush(waiting, (cost + length * costs[there], there, _Reached(cell, way.gain + gain, gap)))
    path = [best]
    while (before := reached[path[-1]].before) is not None:
        path.append(before)
    return path[::-1]
