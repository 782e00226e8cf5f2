import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from schemas.errors import BundleMakingError
from workers.checkpoints.reading import Checkpoint, read_checkpoint

Save = Callable[[str, Any], Path]
WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


def _read(path: Path) -> Checkpoint:
    return read_checkpoint(path, ("teacher", "model"), ("optimizer", "epoch"))


def test_the_weights_of_each_kind_of_file_are_read(save: Save, tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "x.safetensors")
    torch.save(WEIGHTS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    files = [
        save("bare.pth", WEIGHTS),
        tmp_path / "old.pth",
        tmp_path / "x.safetensors",
        save("in.pth", {"teacher": WEIGHTS, "optimizer": {"state": {0: {"step": 1}}}, "epoch": 3}),
    ]
    for path in files:
        read = _read(path)
        assert read.tensors.keys() == WEIGHTS.keys()
        assert all(torch.equal(read.tensors[name], tensor) for name, tensor in WEIGHTS.items())
        assert read.source.size == path.stat().st_size
    assert (read.section, read.beside) == ("teacher", ["optimizer", "epoch"])


def test_progress_reaches_the_size_of_the_file(save: Save) -> None:
    path = save("bare.pth", WEIGHTS)
    seen: list[tuple[int, int]] = []
    read_checkpoint(path, (), (), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)


def test_a_file_that_needs_pickle_is_refused_with_a_command_that_converts_it(save: Save) -> None:
    path = save("it's pickled.pth", {"model": WEIGHTS, "args": argparse.Namespace(lr=0.1), "epoch": 3})
    with pytest.raises(BundleMakingError, match=r"only pickle can read.*it needs argparse\.Namespace") as refused:
        _read(path)
    # The command that the message gives works as it stands.
    command = str(refused.value).split("\n")[-1].strip().replace("python ", f"{sys.executable} ", 1)
    subprocess.run(command, shell=True, check=True)
    converted = _read(path.with_name("it's pickled-tensors.pth"))
    assert torch.equal(converted.tensors["layer.weight"], WEIGHTS["layer.weight"])


def test_nothing_in_a_refused_file_was_run(save: Save, tmp_path: Path) -> None:
    path = save("hostile.pth", {"model": _WritesWhenRead(tmp_path / "was-run")})
    with pytest.raises(BundleMakingError, match="pickle"):
        _read(path)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.filterwarnings("error")
def test_a_file_that_would_run_a_command_is_not_to_be_converted(save: Save, tmp_path: Path) -> None:
    path = save("hostile.pth", {"model": _RunsACommandWhenRead()})
    with pytest.raises(BundleMakingError, match=r"calls posix\.system.*Do not convert") as refused:
        _read(path)
    assert "python -c" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.pth", b"Best weights are on the other disk.\n", "is a text file"),
        ("model.pth", (100).to_bytes(8, "little") + b'{"w": {}}', r"rename it so that it ends in \.safetensors"),
        ("junk.pth", b"e\x00\x00", "damaged, cut off or no checkpoint"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BundleMakingError, match=message):
        _read(tmp_path / name)


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
@pytest.mark.parametrize("keep", [0, 4, 100, 700])
def test_a_file_that_is_cut_off_is_called_damaged(tmp_path: Path, name: str, keep: int) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(WEIGHTS, path)
    else:
        save_file({"w": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BundleMakingError, match=r"damaged.*Fetch it again"):
        _read(path)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><title>Quota exceeded</title>", b"version https://git-lfs"])
def test_a_page_or_pointer_in_place_of_the_file_is_called_that(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "teacher_checkpoint.pth"
    path.write_bytes(content)
    with pytest.raises(BundleMakingError, match="fetch it again"):
        _read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": WEIGHTS, "epoch": 1}, "no entry teacher or model; it holds epoch, weights"),
        ({"model": WEIGHTS, "surprise": {}}, "nobody expects there: surprise"),
        ({"model": {**WEIGHTS, "nested": {}}}, "what is no tensor: nested"),
        ({"model": {}, "epoch": 1}, "holds no tensors"),
        ([1, 2], "no dictionary of tensors but list"),
    ],
)
def test_a_file_with_other_content_is_refused_by_what_it_holds(save: Save, content: Any, message: str) -> None:
    with pytest.raises(BundleMakingError, match=message):
        _read(save("other.pth", content))


class _WritesWhenRead:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class _RunsACommandWhenRead:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)
