"""Reading the tables that publishers ship with their images. Used by the adapters."""

import csv
import gzip
import math
import re
from collections.abc import Sequence
from pathlib import Path

from schemas.errors import SourceError
from training.sources.source import Sex, Split, View

#: Nobody was older; ChestX-ray14 holds ages such as 412.
_OLDEST = 120

_SPLITS: dict[str, Split] = {"train": "train", "train_val": "train", "val": "val", "valid": "val", "validate": "val"}


def read_table(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file (also gzipped) by column name, cells and names stripped.

    Raises SourceError when it is absent, not text, or lacks one of the `needed` columns.
    """
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig", newline="") as file
        ):
            reader = csv.DictReader(file)
            names = {name.strip() for name in reader.fieldnames or []}
            missing = [name for name in needed if name not in names]
            if missing:
                raise SourceError(
                    f"{path} has no column {', '.join(missing)}; it has {', '.join(sorted(names)) or 'none'}. "
                    "Is it the file that the publisher ships?"
                )
            return [
                {name.strip(): (cell or "").strip() for name, cell in row.items() if isinstance(name, str)}
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} cannot be read ({error}).") from error


def first_of(folder: Path, *patterns: str) -> Path | None:
    """The first file in the folder that fits one of the glob patterns, in the order of the patterns and of names."""
    return next((path for pattern in patterns for path in sorted(folder.glob(pattern))), None)


def files_by_name(folder: Path, *patterns: str) -> dict[str, Path]:
    """Every file below the folder that fits a pattern, by its stem. Raises SourceError when two files share a name."""
    found: dict[str, Path] = {}
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if found.setdefault(path.stem, path) != path:
                raise SourceError(f"{found[path.stem]} and {path} have the same name; keep one of them.")
    return found


def number(cell: str) -> float | None:
    """The cell as a finite number; None when it is none."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def age_years(cell: str) -> float | None:
    """An age such as "36", "058Y", "45yrs" or "18M" (months) in years; None when unknown or impossible."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([YMWD]?)[a-z. ]*", cell.strip(), re.IGNORECASE)
    if match is None:
        return None
    unit = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}[match[2].upper()]
    years = float(match[1]) / unit
    return years if 0 < years <= _OLDEST else None


def sex_of(cell: str) -> Sex | None:
    """F or M from "F", "female", "Male", ..."""
    first = cell.strip()[:1].upper()
    return "F" if first == "F" else "M" if first == "M" else None


def view_of(cell: str) -> View | None:
    """PA, AP or LL from what publishers write: "AP Supine", "L", "LATERAL", "Frontal" (unknown), ..."""
    words = re.split(r"[^A-Z]+", cell.upper())
    if "PA" in words:
        return "PA"
    if "AP" in words:
        return "AP"
    return "LL" if {"L", "LL", "RL", "LAT", "LATERAL"} & set(words) else None


def split_of(cell: str) -> Split | None:
    """The publisher's split from "official train", "validate", "test", ..."""
    words = cell.lower().split()
    last = words[-1] if words else ""
    return "test" if last == "test" else _SPLITS.get(last)
