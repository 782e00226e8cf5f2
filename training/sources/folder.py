"""A folder of images with a labels.csv: the layout for everybody's own images, and the one that PACS images take."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from schemas.codes import Finding
from schemas.errors import SourceError
from schemas.result import Point
from training.sources.images import read_image
from training.sources.masks import FileMask
from training.sources.source import Sample, view_labels
from training.sources.tables import age_years, number, read_table, sex_of, split_of, view_of

#: Columns that say something of the image; all but `file` may be missing.
COLUMNS = ("file", "patient", "view", "age_years", "sex", "split", "licence")
_TARGET = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+|" + "|".join(finding.value for finding in Finding))


@dataclass(frozen=True)
class Folder:
    """`folder` holds labels.csv, a row per image.

    Columns: those of `COLUMNS`; mask.STRUCTURE with the file of a mask; x.LANDMARK and y.LANDMARK in pixels; and one
    per target ("pneumothorax", "endotracheal_tube.presence", ...) with 1 present, 0 absent, between them how sure,
    blank unknown. File names are relative to the folder. Without a patient every image counts as another patient.
    """

    folder: Path
    name: str = "folder"
    document: str = "docs/data-sources.md"
    verified: bool = True

    def __iter__(self) -> Iterator[Sample]:
        table = self.folder / "labels.csv"
        rows = read_table(table, ["file"])
        for column in rows[0] if rows else ():
            if column not in COLUMNS and not re.match(r"(mask|x|y)\.", column) and not _TARGET.fullmatch(column):
                raise SourceError(
                    f"{table}: the column {column} is no target and says nothing of an image. Targets are the findings "
                    "of schemas/findings.py and names with a dot, such as endotracheal_tube.presence."
                )
        for row in rows:
            yield self._sample(table, row)

    def _sample(self, table: Path, row: Mapping[str, str]) -> Sample:
        path = self.folder / row["file"]
        view = view_of(row.get("view", ""))
        return Sample(
            source=self.name,
            key=row["file"],
            patient=row.get("patient") or row["file"],
            licence=row.get("licence", ""),
            read=partial(read_image, path),
            path=path,
            labels=view_labels(view) | _labels(table, row),
            view=view,
            age_years=age_years(row.get("age_years", "")),
            sex=sex_of(row.get("sex", "")),
            split=split_of(row.get("split", "")),
            masks={
                column.removeprefix("mask."): FileMask((self.folder / cell,))
                for column, cell in row.items()
                if column.startswith("mask.") and cell
            },
            landmarks=_landmarks(row),
        )


def _labels(table: Path, row: Mapping[str, str]) -> dict[str, float]:
    labels = {}
    for column, cell in row.items():
        if not cell or column in COLUMNS or column.startswith(("mask.", "x.", "y.")):
            continue
        value = number(cell)
        if value is None or not 0 <= value <= 1:
            raise SourceError(f"{table}, {row['file']}: {column} is {cell}; write 1, 0, between them, or nothing.")
        labels[column] = value
    return labels


def _landmarks(row: Mapping[str, str]) -> dict[str, Point]:
    points = {}
    for column, cell in row.items():
        if column.startswith("x."):
            name = column.removeprefix("x.")
            x, y = number(cell), number(row.get(f"y.{name}", ""))
            if x is not None and y is not None:
                points[name] = Point(x=x, y=y)
    return points
