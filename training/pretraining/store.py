"""Radiographs as squares in a folder, for pre-training and for the probes of it: any row is read without the others.

Written by filling.py. One file of pixels for all images: a training draws images at random, on any number of
processes, and goes on after a kill without having read anything again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import SourceError
from schemas.preprocessing import Preprocessing

_IMAGES, _LABELS, _DOCUMENT = "images.npy", "labels.npy", "store.json"


class StoreDocument(BaseModel):
    """store.json: written before the images, so that what an earlier run has placed can be used again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: How they were placed; mean and standard deviation are those of whoever reads them.
    preprocessing: Preprocessing
    #: Columns of the labels.
    targets: list[str]
    #: Of each image whose it is, told apart within its source; as a pseudonym where it is a patient.
    patients: list[str]
    sources: list[str]
    #: SHA-256 over what the images were made from.
    origin: str


class Squares:
    """Images of one size in one file or in several, one after the other."""

    def __init__(self, parts: Sequence[NDArray[np.uint8]]) -> None:
        self.parts = [part for part in parts if len(part)]
        self._ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.parts else 0

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """uint8 [n, S, S], in the order of `rows` [n]."""
        side = self.parts[0].shape[1]
        taken = np.empty((len(rows), side, side), np.uint8)
        holds = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(holds):
            mine = holds == number
            taken[mine] = self.parts[number][rows[mine] - (self._ends[number] - len(self.parts[number]))]
        return taken


@dataclass(frozen=True, eq=False)
class Store:
    """N images as the network will see them, before normalisation."""

    #: 0..255 for 0..1.
    images: Squares
    #: float32 [N, targets]: 1 present, 0 absent, NaN unknown.
    labels: NDArray[np.float32]
    document: StoreDocument

    def __len__(self) -> int:
        return len(self.images)

    @property
    def owners(self) -> NDArray[np.str_]:
        """[N]: source and patient, which nobody else has both of."""
        whose = zip(self.document.sources, self.document.patients, strict=True)
        return np.array([f"{source} {patient}" for source, patient in whose])

    def labels_of(self, targets: Sequence[str]) -> NDArray[np.float32]:
        """float32 [N, targets]; NaN of a target that the store does not know."""
        column = {target: index for index, target in enumerate(self.document.targets)}
        unknown = np.full(len(self), np.nan, np.float32)
        return np.stack([self.labels[:, column[t]] if t in column else unknown for t in targets], axis=1)


@dataclass(frozen=True, eq=False)
class Writable:
    """The arrays of a store that is being filled."""

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]

    def flush(self) -> None:
        for array in (self.images, self.labels):
            assert isinstance(array, np.memmap)
            array.flush()


def create_store(folder: Path, document: StoreDocument) -> Writable:
    """The arrays of the store of `document` in `folder`, as far as filled by an earlier run; other images go."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _is_of(folder, document):
        for path in folder.iterdir():
            path.unlink()
        count, side = len(document.patients), document.preprocessing.size
        open_memmap(folder / _IMAGES, mode="w+", dtype=np.uint8, shape=(count, side, side)).flush()
        shape = (count, len(document.targets))
        open_memmap(folder / _LABELS, mode="w+", dtype=np.float32, shape=shape).flush()
        # The last step: a folder that was left before it is made anew.
        (folder / _DOCUMENT).write_text(document.model_dump_json(), encoding="utf-8")
    return Writable(*_arrays(folder, "r+"))


def open_store(folder: Path) -> Store:
    """The store in `folder`, memory-mapped. Raises SourceError."""
    try:
        document = StoreDocument.model_validate_json((folder / _DOCUMENT).read_bytes())
        images, labels = _arrays(folder, "r")
        return Store(Squares([images]), labels, document)
    except (OSError, ValidationError, ValueError) as error:
        raise SourceError(
            f"{folder} holds no images for pre-training ({error}); give chexnode train pretrain its "
            "sources, or another folder."
        ) from error


def joined(stores: Sequence[Store]) -> Store:
    """Several of one preprocessing and the same targets as one."""
    document = stores[0].document.model_copy(
        update={
            "patients": [each for store in stores for each in store.document.patients],
            "sources": [each for store in stores for each in store.document.sources],
            "origin": " ".join(store.document.origin for store in stores),
        }
    )
    parts = [part for store in stores for part in store.images.parts]
    return Store(Squares(parts), np.concatenate([store.labels for store in stores]), document)


def _is_of(folder: Path, document: StoreDocument) -> bool:
    try:
        return StoreDocument.model_validate_json((folder / _DOCUMENT).read_bytes()) == document
    except (OSError, ValidationError):
        return False


def _arrays(folder: Path, mode: Literal["r", "r+"]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    return np.load(folder / _IMAGES, mmap_mode=mode), np.load(folder / _LABELS, mmap_mode=mode)
