"""Examples to learn from, as arrays in a folder: phantoms and radiographs alike, as the model sees them.

Written by filling.py, drawn from by mixture.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from training.examples.targets import COURSES, LANDMARKS, TARGETS

#: Points of a course; of a stomach tube at 384 pixels they lie less than a cell of the dense head apart.
COURSE_POINTS = 128
#: The second look's crop: its side in pixels of the detail image, and how much of its height lies above the carina.
CROP, ABOVE_CARINA = 384, 0.8
#: Side of what is kept for it, with the same centre: wide enough for the crop, jittered and turned.
DETAIL_CROP = 576


@dataclass(frozen=True, eq=False)
class Examples:
    """N examples placed in S x S pixels; points are (x, y) of the model's input. NaN: not there, or not known."""

    #: uint8 [N, S, S], 0..255 for 0..1, with the profile's intensity.
    images: NDArray[np.uint8]
    #: int16 [N, 4]: left, top, right, bottom of the film in it; beside it is nothing.
    areas: NDArray[np.int16]
    #: uint16 [N, S / 2, S / 2], a bit per mask: `REGIONS`, then `PLACED_FINDINGS`.
    masks: NDArray[np.uint16]
    #: uint16 [N]: the bits of `masks` that are known.
    masks_known: NDArray[np.uint16]
    #: float32 [N, TARGETS].
    classes: NDArray[np.float32]
    #: float32 [N, COURSES, COURSE_POINTS, 2].
    courses: NDArray[np.float32]
    #: float32 [N, COURSES], half the width of the device in model pixels.
    radii: NDArray[np.float32]
    #: bool [N, COURSES]: whether it is known where the course is, or that there is none; and its tip.
    courses_known: NDArray[np.bool_]
    tips_known: NDArray[np.bool_]
    #: float32 [N, LANDMARKS, 2].
    landmarks: NDArray[np.float32]
    #: bool [N]
    carina_known: NDArray[np.bool_]
    #: uint8 [N, DETAIL_CROP, DETAIL_CROP] of the image placed at the size of the second look, around its crop.
    details: NDArray[np.uint8]
    #: float32 [N, 4]: x and y scale, x and y offset from model pixels to pixels of `details`; NaN: there is none.
    to_detail: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """S."""
        return int(self.images.shape[1])

    def rows(self, indices: NDArray[np.intp] | slice) -> "Examples":
        """Some of them; of a slice, without reading them."""
        return Examples(*(getattr(self, name)[indices] for name in ARRAYS))

    @classmethod
    def joined(cls, parts: Sequence["Examples"]) -> "Examples":
        """One after the other, in memory."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS))


ARRAYS = tuple(each.name for each in fields(Examples))


def create_examples(folder: Path, count: int, size: int) -> Examples:
    """`count` empty examples in `folder`, to be filled in place. Rows that nobody writes take no room on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (shape, dtype) in _layout(count, size).items():
        open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape).flush()
    return open_examples(folder, writable=True)


def open_examples(folder: Path, *, writable: bool = False) -> Examples:
    """The examples of a folder, memory-mapped."""
    return Examples(*(np.load(folder / f"{name}.npy", mmap_mode="r+" if writable else "r") for name in ARRAYS))


def _layout(count: int, size: int) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    return {
        "images": ((count, size, size), np.uint8),
        "areas": ((count, 4), np.int16),
        "masks": ((count, size // 2, size // 2), np.uint16),
        "masks_known": ((count,), np.uint16),
        "classes": ((count, len(TARGETS)), np.float32),
        "courses": ((count, len(COURSES), COURSE_POINTS, 2), np.float32),
        "radii": ((count, len(COURSES)), np.float32),
        "courses_known": ((count, len(COURSES)), np.bool_),
        "tips_known": ((count, len(COURSES)), np.bool_),
        "landmarks": ((count, len(LANDMARKS), 2), np.float32),
        "carina_known": ((count,), np.bool_),
        "details": ((count, DETAIL_CROP, DETAIL_CROP), np.uint8),
        "to_detail": ((count, 4), np.float32),
    }
