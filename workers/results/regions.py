"""Regions of a report's measurement groups as SCOORD has them (PS3.3 C.18.6): float [n, 2], column and row."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.codes import Segment
from schemas.result import ImageResult, Point
from workers.results.source import SourceImage

Region = NDArray[np.float64]


def evaluated_region(source: SourceImage, segments: Sequence[Segment]) -> Region:
    """Closed rectangle around those of `segments` that were outlined, else around what the model saw of the image.

    What was looked at, not where something was found: a rectangle is not mistaken for the outline of a lesion.
    """
    masks = source.masks
    boxes = [_box(masks[segment]) for segment in segments if segment in masks and masks[segment].any()]
    if boxes:
        left, top = np.min(boxes, axis=0)[:2]
        right, bottom = np.max(boxes, axis=0)[2:]
    elif source.seen is not None:
        left, top, right, bottom = source.seen.ravel().tolist()
    else:
        left, top, right, bottom = 0, 0, source.result.columns, source.result.rows
    corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return _no_rectangle_tool(np.array(corners, dtype=np.float64))


def line(result: ImageResult, points: Sequence[Point]) -> Region:
    """`points` in order, kept inside the image."""
    coordinates = np.array([[point.x, point.y] for point in points], dtype=np.float64)
    return _no_rectangle_tool(np.clip(coordinates, 0, [result.columns, result.rows]))


def _no_rectangle_tool(points: Region) -> Region:
    """The same line, with midpoints where it has 4 or 5 points: OHIF 3.13 takes those for a rectangle tool of its own.

    It then offers to turn them into editable measurements and loses them in doing so.
    """
    if len(points) not in (4, 5):
        return points
    doubled = np.empty((2 * len(points) - 1, 2))
    doubled[::2] = points
    doubled[1::2] = (points[:-1] + points[1:]) / 2
    return doubled


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a mask that is not empty; right and bottom are the far edges of the last pixels."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
