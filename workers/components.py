"""Connected parts of a mask, without SciPy: removes the specks of a segmentation."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

#: A part is kept when it has at least this share of the largest part's cells: a lung is one piece, but a device or
#: the heart's border may cut it into a few.
KEPT_SHARE = 0.1

_Run = tuple[int, int]


def substantial_parts(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask bool [H, W] without its parts (8-connected) smaller than KEPT_SHARE of the largest one."""
    runs = _runs(mask)
    parent = list(range(sum(len(row) for row in runs)))
    size = [end - start for row in runs for start, end in row]

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first = 0
    for above, below in pairwise(runs):
        for i, (start, end) in enumerate(above, first):
            for j, (other_start, other_end) in enumerate(below, first + len(above)):
                # <= instead of <: parts that touch at a corner are one.
                if other_start <= end and start <= other_end:
                    a, b = root(i), root(j)
                    if a != b:
                        parent[b] = a
                        size[a] += size[b]
        first += len(above)

    least = KEPT_SHARE * max(size, default=0)
    kept = np.zeros_like(mask)
    index = 0
    for row, found in zip(kept, runs, strict=True):
        for start, end in found:
            row[start:end] = size[root(index)] >= least
            index += 1
    return kept


def _runs(mask: NDArray[np.bool_]) -> list[list[_Run]]:
    """For each row the start and end (exclusive) of each stretch of True."""
    edges = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
    rows, starts = np.nonzero(edges > 0)
    ends = np.nonzero(edges < 0)[1]
    found: list[list[_Run]] = [[] for _ in mask]
    for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
        found[row].append((start, end))
    return found
