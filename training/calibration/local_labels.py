"""A department's own labels: a table of images with patients and classes. Called by `chexnode train calibrate`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Manifest
from schemas.errors import SourceError
from training.sources.folder import COLUMNS
from training.sources.tables import number, read_table

#: Column of the image, relative to the folder of images; `file` as in the folders of training/sources.
_IMAGE, _IMAGE_OF_SOURCES = "path", "file"
_PATIENT = "patient"
#: What else those folders say of an image.
_OF_SOURCES = ("mask.", "x.", "y.")


@dataclass(frozen=True, eq=False)
class LocalLabels:
    """Images in the order of their table."""

    paths: list[Path]
    #: [n], as the table names them.
    patients: NDArray[np.str_]
    #: float64 [n, K] in the order of the manifest's classes: 1 present, 0 absent, NaN unknown.
    truth: NDArray[np.float64]
    #: Columns that are no class of the bundle and nothing else that is known.
    ignored: list[str]


def read_labels(table: Path, folder: Path, manifest: Manifest) -> LocalLabels:
    """The images of `folder` that the CSV file `table` names.

    Columns: path (relative to the folder), patient, and one per class of the bundle with 1 present, 0 absent, blank
    unknown. Raises SourceError that says which line is wrong, or which column is missing.
    """
    targets: list[str] = [scored.target for scored in manifest.classes]
    rows = read_table(table, [_PATIENT])
    if not rows:
        raise SourceError(f"{table} names no image: write a line for each.")
    columns = list(rows[0])
    image = _IMAGE if _IMAGE in columns else _IMAGE_OF_SOURCES
    if image not in columns:
        raise SourceError(f"{table} has no column {_IMAGE} with the file of each image; it has {', '.join(columns)}.")
    known = {*targets, *COLUMNS, image}
    ignored = [each for each in columns if each not in known and not each.startswith(_OF_SOURCES)]
    if not set(targets) & set(columns):
        raise SourceError(
            f"{table} has no column of a class of {manifest.name}; it has {', '.join(columns)}, and the classes are "
            f"{', '.join(targets)}. Name the columns so."
        )
    lines: dict[str, int] = {}
    truth = np.full((len(rows), len(targets)), np.nan)
    for line, row in enumerate(rows, start=2):
        where = f"{table}, line {line}"
        if not row[image] or not row[_PATIENT]:
            lacking = image if not row[image] else f"{_PATIENT}, without which images of one patient count as many"
            raise SourceError(f"{where} has no {lacking}.")
        if lines.setdefault(row[image], line) != line:
            raise SourceError(f"{where}: {row[image]} is in line {lines[row[image]]} already; keep one of them.")
        for index, target in enumerate(targets):
            if cell := row.get(target, ""):
                truth[line - 2, index] = _label(cell, f"{where}: {target}")
    return LocalLabels([folder / each for each in lines], np.array([row[_PATIENT] for row in rows]), truth, ignored)


def _label(cell: str, where: str) -> float:
    value = number(cell)
    if value not in (0.0, 1.0):
        raise SourceError(f"{where} is {cell}; write 1 for present, 0 for absent, nothing for unknown.")
    return value
