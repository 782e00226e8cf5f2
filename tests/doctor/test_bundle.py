"""What the doctor says of a model bundle, without importing anything of a worker."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from node.doctor.verdict import Status
from schemas.bundle import bundle_folder
from schemas.settings import Settings
from tests.doctor.examining import examine


def test_a_bundle_with_a_damaged_weight_does_not_pass(bare: Settings, tmp_path: Path) -> None:
    bare.worker.bundle = tmp_path / "bundle"
    shutil.copytree(bundle_folder(None), bare.worker.bundle)
    weights = bare.worker.bundle / "backbone.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    verdicts = examine(bare, "bundle")
    assert verdicts["bundle.manifest"].status == Status.OK
    assert verdicts["bundle.self-test"].status == Status.FAILED
    assert "backbone.safetensors cannot be read" in verdicts["bundle.self-test"].found
    assert "Fetch the bundle again" in verdicts["bundle.self-test"].to_do
    assert verdicts["bundle.clearance"].status == Status.WARNING
    assert "not for clinical use" in verdicts["bundle.clearance"].found


def test_a_receiver_host_without_torch_leaves_the_self_test_out(
    bare: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    verdict = examine(bare, "bundle.self-test")["bundle.self-test"]
    assert verdict.status == Status.SKIPPED
    assert "not installed on this host (torch)" in verdict.found


def test_a_self_test_that_hangs_is_given_up(bare: Settings) -> None:
    bare.worker.engine_start_seconds = 0.01
    verdict = examine(bare, "bundle.self-test")["bundle.self-test"]
    assert verdict.status == Status.FAILED and "worker.engine_start_seconds" in verdict.found


def test_the_doctor_itself_needs_no_torch() -> None:
    code = "import sys, node.doctor.command, node.page.checks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
