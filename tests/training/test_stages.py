"""Stages: made once, found again, taken up again after a kill, made anew when anything that decides them changed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.processes import wait_for
from training.progress import training_progress
from training.regeneration.code_digest import code_digest
from training.regeneration.stages import Stage, Stages

CODE = ["training.regeneration.code_digest"]


def make(cache: Path, name: str = "one", *, part: object = 1, inputs: list[Stage] | None = None) -> tuple[Stage, bool]:
    """A stage that writes a file, and whether it had to be made."""
    calls = []

    def work(folder: Path) -> None:
        calls.append(folder)
        (folder / "made").write_text("whole")

    with training_progress(Console(quiet=True)) as progress:
        stage = Stages(cache, progress, 1).make(name, work, inputs=inputs or [], part=part, code=CODE)
    assert (stage.folder / "made").read_text() == "whole"
    assert stage.found is not bool(calls)
    return stage, bool(calls)


def test_a_stage_is_made_once(tmp_path: Path) -> None:
    first, made = make(tmp_path)
    again, made_again = make(tmp_path)
    assert (made, made_again) == (True, False)
    assert again.folder == first.folder and again.document == first.document


@pytest.mark.parametrize("change", ["name", "part", "input"])
def test_a_stage_is_made_anew_when_what_decides_it_changed(tmp_path: Path, change: str) -> None:
    before, _ = make(tmp_path, "before")
    other, _ = make(tmp_path, "before", part=2)
    make(tmp_path, inputs=[before])
    _, made = make(
        tmp_path,
        "two" if change == "name" else "one",
        part=2 if change == "part" else 1,
        inputs=[other if change == "input" else before],
    )
    assert made


def test_other_code_has_another_digest_and_a_package_means_all_of_its_modules(tmp_path: Path) -> None:
    assert code_digest(["training.regeneration.stages"]) != code_digest(["training.regeneration.gate"])
    assert code_digest(["training.regeneration.gate", "training.regeneration.stages"]) == code_digest(
        ["training.regeneration.stages", "training.regeneration.gate"]
    )
    assert code_digest(["training.phantom"]) != code_digest(["training.phantom.render"])
    with pytest.raises(ModuleNotFoundError):
        code_digest(["training.no_such_module"])


def test_a_stage_that_fails_is_not_there_and_the_next_attempt_finds_what_it_left(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError("disk full")

    def goes_on(folder: Path) -> None:
        (folder / "made").write_text((folder / "half").read_text())

    with training_progress(Console(quiet=True)) as progress:
        stages = Stages(tmp_path, progress, 1)
        with pytest.raises(OSError, match="disk full"):
            stages.make("one", fails, code=CODE)
        assert not [path for path in (tmp_path / "stages").iterdir() if (path / "stage.json").exists()]
        stage = stages.make("one", goes_on, code=CODE)
    assert (stage.folder / "made").read_text() == "half"


def test_a_folder_that_is_not_whole_is_made_anew_and_kept_apart(tmp_path: Path) -> None:
    stage, _ = make(tmp_path)
    (stage.folder / "stage.json").write_text("{")
    _, made = make(tmp_path)
    assert made
    assert [path for path in (tmp_path / "stages").iterdir() if ".replaced-" in path.name]


def test_a_process_that_is_killed_leaves_no_stage_and_no_lock(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from rich.console import Console
from training.progress import training_progress
from training.regeneration.stages import Stages
def work(folder):
    (folder / "half").write_text("half")
    time.sleep(600)
with training_progress(Console(quiet=True)) as progress:
    Stages(Path({str(tmp_path)!r}), progress, 1).make("one", work, part=1, code={CODE!r})
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        wait_for("the stage is under way", lambda: list((tmp_path / "stages").glob("one-*.partial/half")))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    stage, made = make(tmp_path)
    assert made and (stage.folder / "half").read_text() == "half"
