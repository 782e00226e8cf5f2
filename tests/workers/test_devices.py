"""Which devices the settings mean, with a driver that lists two GPUs, none, or is not there."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.settings import WorkerSettings
from workers.devices import choose_devices


def driver(folder: Path, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def test_auto_means_every_gpu_that_is_visible(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(path, "echo 'GPU 0: H200 (UUID: GPU-1)'; echo 'GPU 1: H200 (UUID: GPU-2)'")
    assert choose_devices("auto") == ["cuda:0", "cuda:1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert choose_devices("auto") == ["cuda:0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_devices("auto") == ["cpu"]


def test_auto_means_the_cpu_where_no_driver_answers(path: Path) -> None:
    driver(path, "echo 'could not communicate with the NVIDIA driver'; exit 9")
    assert choose_devices("auto") == ["cpu"]


def test_named_devices_are_taken_as_they_are() -> None:
    assert choose_devices("cpu") == ["cpu"]
    assert choose_devices("cuda:0,cuda:2") == ["cuda:0", "cuda:2"]


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:0,cpu", ""])
def test_any_other_device_is_a_settings_error(device: str) -> None:
    with pytest.raises(ValidationError, match="device"):
        WorkerSettings(device=device)
