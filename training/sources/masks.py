"""Masks of a data source: files, boxes, arrays. Made by the adapters, read by training."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from schemas.errors import SourceError

#: A component smaller than this share of the whole mask is a speck, not a lung.
_LEAST_LUNG_SHARE = 0.05


@dataclass(frozen=True)
class FileMask:
    """An image file, or several of which each has a part; inside where any is brighter than half."""

    paths: tuple[Path, ...]

    def read(self, rows: int, columns: int) -> NDArray[np.bool_]:
        inside = np.zeros((rows, columns), bool)
        for path in self.paths:
            inside |= _read(path, rows, columns)
        return inside

    def digest(self) -> str:
        return _digest(*map(_content, self.paths))


@dataclass(frozen=True)
class LungMask:
    """One lung out of two files that hold one lung each, told apart by where they lie.

    Publishers disagree on whether "left" is the patient's or the image's; in a frontal image that is the right way
    up the patient's right lung lies at the left.
    """

    paths: tuple[Path, Path]
    right: bool

    def read(self, rows: int, columns: int) -> NDArray[np.bool_]:
        lungs = [_read(path, rows, columns) for path in self.paths]
        lungs.sort(key=_centre_column)
        return lungs[0 if self.right else 1]

    def digest(self) -> str:
        return _digest(repr(self.right).encode(), *map(_content, self.paths))


@dataclass(frozen=True)
class BoxMask:
    """Rectangles, each (left, top, right, bottom) as shares of the image's width and height, 0..1."""

    boxes: tuple[tuple[float, float, float, float], ...]

    def read(self, rows: int, columns: int) -> NDArray[np.bool_]:
        inside = np.zeros((rows, columns), bool)
        for left, top, right, bottom in self.boxes:
            inside[round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)] = True
        return inside

    def digest(self) -> str:
        return _digest(repr(self.boxes).encode())


@dataclass(frozen=True, eq=False)
class ArrayMask:
    """A mask that is there already, bool [rows, columns]."""

    inside: NDArray[np.bool_]

    def read(self, rows: int, columns: int) -> NDArray[np.bool_]:
        return _resized(self.inside, rows, columns)

    def digest(self) -> str:
        return _digest(repr(self.inside.shape).encode(), np.packbits(self.inside).tobytes())


@dataclass(frozen=True, eq=False)
class LungSides:
    """A mask of both lungs, divided."""

    #: bool [rows, columns], the patient's right and left.
    right: NDArray[np.bool_]
    left: NDArray[np.bool_]


def lung_sides(lungs: NDArray[np.bool_]) -> LungSides | None:
    """Divide the lungs of a frontal image that is the right way up; None when they touch or one is absent."""
    labels, count = ndimage.label(lungs)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    large = [index + 1 for index, size in enumerate(sizes) if size >= _LEAST_LUNG_SHARE * sizes.sum()]
    if len(large) != 2:
        return None
    first, second = sorted((labels == index for index in large), key=_centre_column)
    return LungSides(right=first, left=second)


def _digest(*parts: bytes) -> str:
    """Hexadecimal SHA-256; which bytes belong to which part matters."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _content(path: Path) -> bytes:
    """Of the file; an absent one is told when its mask is read."""
    return path.read_bytes() if path.is_file() else b""


def _read(path: Path, rows: int, columns: int) -> NDArray[np.bool_]:
    try:
        with Image.open(path) as image:
            inside = np.asarray(image.convert("L")) > 127
    except OSError as error:
        raise SourceError(f"The mask {path} cannot be read ({error}); fetch the file again.") from error
    return _resized(inside, rows, columns)


def _resized(inside: NDArray[np.bool_], rows: int, columns: int) -> NDArray[np.bool_]:
    if inside.shape == (rows, columns):
        return inside
    image = Image.fromarray(inside.astype(np.uint8))
    return np.asarray(image.resize((columns, rows), Image.Resampling.NEAREST)) > 0


def _centre_column(inside: NDArray[np.bool_]) -> float:
    columns = inside.sum(axis=0)
    return float((columns * np.arange(len(columns))).sum() / max(1, columns.sum()))
