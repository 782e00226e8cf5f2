"""The files that a command line names: files as they are, folders searched for DICOM Part 10 files."""

from collections.abc import Iterable
from pathlib import Path

import click
from pydicom.misc import is_dicom
from rich.console import Console


def expand(paths: Iterable[Path]) -> list[Path]:
    """Every file that is named, and every Part 10 file in a folder that is named; says how many others were skipped.

    Raises ClickException when nothing is left.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        files = sorted(each for each in path.rglob("*") if each.is_file())
        dicom = [each for each in files if is_dicom(each)]
        if len(dicom) < len(files):
            Console(stderr=True).print(f"{path}: {len(files) - len(dicom)} files that are not DICOM were skipped")
        found += dicom
    if not found:
        raise click.ClickException("There is no DICOM file in what was named.")
    return found
