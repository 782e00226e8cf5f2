"""Phantom radiographs as files for tests: each call makes a new study, unless told which one to join."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from training.plain.dicom import Order, phantom_dataset
from training.plain.phantom.render import render_phantom
from training.plain.phantom.truth import Phantom, TubeChoice


@cache
def phantom(seed: int, tube: TubeChoice = "any", rows: int = 512, columns: int = 512) -> Phantom:
    """A phantom with its truth, rendered once per run."""
    return render_phantom(seed, rows, columns, tube)


def write_phantom(
    path: Path,
    seed: int = 1,
    tube: TubeChoice = "any",
    study: Dataset | None = None,
    change: Callable[[Dataset], None] = lambda dataset: None,
    rows: int = 512,
    columns: int = 512,
) -> Dataset:
    """Write a phantom with new UIDs (the study's of `study` where given), after `change`; returns its header."""
    dataset = phantom_dataset(phantom(seed, tube, rows, columns), Order())
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        setattr(dataset, keyword, generate_uid(prefix=None) if study is None else study[keyword].value)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    change(dataset)
    dataset.save_as(path, enforce_file_format=True)
    return dcmread(path, stop_before_pixels=True)
