"""Phantom radiographs of adults as files for tests: each call makes a new study, unless told which one to join."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from schemas.result import Point
from training.phantom.endotracheal_tube import TubeChoice
from training.phantom.render import render_phantom
from training.phantom.truth import DeviceKind, DeviceTruth, Phantom, Structure
from training.phantom_dicom import Order, phantom_dataset

#: As `chexnode phantom --tube` has it.
Tube = Literal["well-placed", "malpositioned", "absent", "any"]


@cache
def phantom(seed: int, tube: Tube = "any", rows: int = 512, columns: int = 512) -> Phantom:
    """A phantom with its truth, rendered once per run."""
    return render_phantom(seed, rows, columns, tube=TubeChoice(tube), age_years=40.0 + seed % 45)


def tube_of(phantom: Phantom) -> DeviceTruth:
    """The endotracheal tube of a phantom that has one."""
    tube = phantom.device(DeviceKind.ENDOTRACHEAL_TUBE)
    assert tube is not None
    return tube


def tip_of(phantom: Phantom) -> Point:
    """Where that tube ends, on the image."""
    tip = tube_of(phantom).tip
    assert tip is not None
    return tip


def lungs_of(phantom: Phantom) -> NDArray[np.bool_]:
    """Both lungs, bool [rows, columns]."""
    lungs: NDArray[np.bool_] = phantom.masks[Structure.RIGHT_LUNG] | phantom.masks[Structure.LEFT_LUNG]
    return lungs


def write_phantom(
    path: Path,
    seed: int = 1,
    tube: Tube = "any",
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
