"""Phantoms as files: DICOM that other people's tools accept, PNG, the truth beside them."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.support.dicom_tools import dciodvfy_errors
from training.phantom.render import render_phantom
from training.phantom.truth import Structure, View
from training.phantom_command import phantom_command
from training.phantom_dicom import Order, age_string, phantom_dataset


@pytest.mark.parametrize(
    ("view", "age", "photometric_interpretation", "orientation", "age_text"),
    [
        (View.PA, 66.4, "MONOCHROME2", ["L", "F"], "066Y"),
        (View.AP, 1.5, "MONOCHROME1", ["L", "F"], "018M"),
        (View.LATERAL, 30.0, "MONOCHROME2", ["P", "F"], "030Y"),
    ],
)
def test_dciodvfy_finds_no_error_in_any_view(
    tmp_path: Path, view: View, age: float, photometric_interpretation: str, orientation: list[str], age_text: str
) -> None:
    phantom = render_phantom(3, 120, 100, view=view, age_years=age)
    path = tmp_path / "phantom.dcm"
    inverse = photometric_interpretation == "MONOCHROME1"
    order = Order(patient_name="Phantom^Chest", patient_id="P1")
    phantom_dataset(phantom, order, "MONOCHROME1" if inverse else "MONOCHROME2").save_as(path, enforce_file_format=True)
    assert dciodvfy_errors(path) == []
    read = pydicom.dcmread(path)
    assert read.PatientAge == age_text
    assert read.PatientSex == phantom.sex
    assert read.ViewPosition == view.value
    assert list(read.PatientOrientation) == orientation
    assert float(read.ImagerPixelSpacing[0]) == pytest.approx(phantom.imager_mm_per_pixel, rel=1e-4)
    assert float(read.EstimatedRadiographicMagnificationFactor) == pytest.approx(phantom.magnification, rel=1e-4)
    shown = read.pixel_array / 4095
    assert (1 - shown if inverse else shown) == pytest.approx(phantom.image, abs=1 / 4095)


@pytest.mark.parametrize(
    ("age", "text"), [(95.9, "095Y"), (2.0, "002Y"), (1.99, "023M"), (0.25, "003M"), (0.1, "036D")]
)
def test_ages_are_written_as_dicom_writes_them(age: float, text: str) -> None:
    assert age_string(age) == text


def test_the_command_writes_dicom_and_truth(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--count", "2", "--seed", "4", "--size", "96", "--view", "PA", "--age", "50"]
    result = CliRunner().invoke(phantom_command, [*arguments, "--tube", "malpositioned"], catch_exceptions=False)
    assert result.exit_code == 0
    for seed in (4, 5):
        dataset = pydicom.dcmread(tmp_path / f"seed-{seed}.dcm")
        truth = json.loads((tmp_path / f"seed-{seed}.json").read_text(encoding="utf-8"))
        assert truth["sop_instance_uid"] == dataset.SOPInstanceUID
        assert (truth["view"], truth["age_years"], truth["seed"]) == ("PA", 50, seed)
        tube = truth["devices"][0]
        assert tube["kind"] == "endotracheal_tube"
        assert tube["position"] in ("abnormal", "incompletely_imaged")
        assert not 30 <= tube["tip_to_carina_mm"] <= 70


def test_the_command_writes_everything_else_that_a_phantom_knows(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--size", "96", "--family", "frozen", "--png", "--masks", "--twins", "--sheet"]
    assert CliRunner().invoke(phantom_command, arguments, catch_exceptions=False).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "seed-0-bone-free.png",
        "seed-0-nodule-free.png",
        "seed-0.json",
        "seed-0.npz",
        "seed-0.png",
        "sheet.png",
    ]
    truth = json.loads((tmp_path / "seed-0.json").read_text(encoding="utf-8"))
    assert truth["family"] == "frozen"
    with np.load(tmp_path / "seed-0.npz") as masks, Image.open(tmp_path / "seed-0.png") as picture:
        assert picture.size == (96, 96)
        for structure in Structure:
            assert int(masks[f"structure_{structure.value}"].sum()) == truth["mask_pixels"][structure.value]
