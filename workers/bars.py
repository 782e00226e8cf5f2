"""Bars at the sides of a radiograph: collimation that was blackened, padding to a square. Called when pixels are read.

They hold nothing, but where they are counted as image the same chest comes smaller and elsewhere into a model's input.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: So many lines within an edge it is looked at again: as far as lossy JPEG (8 x 8 blocks) carries the bar's grey.
_BLOCK = 8


@dataclass(frozen=True)
class Area:
    """A rectangle of whole pixels of an image, at least one; right and bottom are the far edges of its last ones."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def columns(self) -> int:
        return self.right - self.left

    @property
    def rows(self) -> int:
        return self.bottom - self.top


def area_without_bars(stored: NDArray[np.integer]) -> Area:
    """The image without its bars, of stored values [rows, columns]; all of it where there are none.

    A bar is made of whole rows or columns of one stored value and ends at an edge, where most pixels have another one.
    Air beside the patient that fades into black is none. Stored values, because a window that blackens the air must not
    change what is image.
    """
    rows, columns = stored.shape
    left, top, right, bottom = 0, 0, columns, rows
    # Twice: a bar at the left of another grey hides the one at the top.
    for _ in range(2):
        top += _constant(stored[top:bottom, left:right])
        bottom -= _constant(stored[top:bottom, left:right][::-1])
        left += _constant(stored[top:bottom, left:right].T)
        right -= _constant(stored[top:bottom, left:right].T[::-1])
    inside = stored[top:bottom, left:right]
    return Area(
        left if _edge(inside.T, stored[top, 0]) else 0,
        top if _edge(inside, stored[0, left]) else 0,
        right if _edge(inside.T[::-1], stored[top, -1]) else columns,
        bottom if _edge(inside[::-1], stored[-1, left]) else rows,
    )


def _constant(lines: NDArray[np.integer]) -> int:
    """How many of `lines` [lines, pixels] from the first on hold nothing but the first pixel's value; 0 when all do."""
    return next((index for index, line in enumerate(lines) if (line != lines[0, 0]).any()), 0)


def _edge(lines: NDArray[np.integer], outside: np.integer) -> bool:
    """Whether most pixels just within have another value than `outside`."""
    return bool((lines[min(_BLOCK, len(lines)) - 1] != outside).mean() > 0.5)
