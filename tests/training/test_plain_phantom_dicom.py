import json
import subprocess
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner

from training.plain.command import phantom_command
from training.plain.dicom import Order, phantom_dataset
from training.plain.phantom.render import render_phantom


@pytest.mark.parametrize("photometric_interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("name", ["Phantom^Chest", "Yamada^Tarou=山田^太郎=やまだ^たろう"])
def test_dciodvfy_finds_no_error(
    tmp_path: Path, photometric_interpretation: Literal["MONOCHROME1", "MONOCHROME2"], name: str
) -> None:
    path = tmp_path / "phantom.dcm"
    order = Order(patient_name=name, patient_id="P1", accession_number="A1", study_instance_uid="2.25.1")
    phantom_dataset(render_phantom(1, 120, 100), order, photometric_interpretation).save_as(
        path, enforce_file_format=True
    )
    checked = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert "Error" not in checked.stdout + checked.stderr
    read = pydicom.dcmread(path)
    assert (str(read.PatientName), read.StudyInstanceUID, read.AccessionNumber) == (name, "2.25.1", "A1")


def test_both_photometric_interpretations_show_the_same_image() -> None:
    phantom = render_phantom(2, 64, 80)
    bright = phantom_dataset(phantom, Order(), "MONOCHROME2")
    dark = phantom_dataset(phantom, Order(), "MONOCHROME1")
    assert np.array_equal(bright.pixel_array, 4095 - dark.pixel_array)
    assert bright.pixel_array / 4095 == pytest.approx(phantom.image, abs=1 / 4095)
    assert bright.SOPInstanceUID != dark.SOPInstanceUID
    assert phantom_dataset(phantom, Order()).SOPInstanceUID == bright.SOPInstanceUID


def test_the_command_writes_an_image_and_its_truth(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--count", "2", "--seed", "4", "--size", "96", "--tube", "malpositioned"]
    result = CliRunner().invoke(phantom_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    for seed in (4, 5):
        dataset = pydicom.dcmread(tmp_path / f"seed-{seed}.dcm")
        truth = json.loads((tmp_path / f"seed-{seed}.json").read_text(encoding="utf-8"))
        assert truth["sop_instance_uid"] == dataset.SOPInstanceUID
        assert truth["tube"]["malpositioned"]
        assert truth["tube"]["course"][-1] == truth["tube"]["tip"]
        assert float(dataset.ImagerPixelSpacing[0]) == pytest.approx(truth["mm_per_pixel"], rel=1e-4)
