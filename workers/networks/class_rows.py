"""Re-heading: one row per class of a head's tensors, kept or made anew. Used by the heads' `with_classes`."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def with_rows(tensor: Tensor, rows: Sequence[int | None], fresh: Callable[[torch.Size], Tensor]) -> Tensor:
    """Tensor [len(rows), ...]: row i is row `rows[i]` of `tensor` [K, ...], or a row of `fresh` where that is None.

    `fresh` gets the whole new shape, so that an initialisation by fan-in and fan-out means what it says.
    """
    made = fresh(torch.Size((len(rows), *tensor.shape[1:]))).to(tensor)
    for index, row in enumerate(rows):
        if row is not None:
            made[index] = tensor[row]
    return made


def check_rows(rows: Sequence[int | None], classes: int) -> None:
    """Raises ValueError unless each row is None or one of `classes` present ones, each at most once."""
    kept = [row for row in rows if row is not None]
    if not rows or len(set(kept)) < len(kept) or any(not 0 <= row < classes for row in kept):
        raise ValueError(f"rows {list(rows)} do not choose among {classes} classes, each at most once")
