"""A training survives what happens to it: kills, other numbers of processes, other sizes, other people's folders."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from schemas.errors import SettingsError
from tests.training.pretraining.tiny import METHODS, tiny_recipe, train
from training.pretraining import trainer
from training.pretraining.checkpoint import keep, read_trained
from training.pretraining.parallel import Processes
from training.pretraining.recipe import PretrainingRecipe

_ALONE = Processes(0, 1, torch.device("cpu"))
_PROGRAM = [sys.executable, "-m", "tests.training.pretraining.tiny"]
_ROOT = Path(__file__).resolve().parents[3]
_PATIENCE_S = 240.0


def _curve(folder: Path) -> list[dict[str, float]]:
    points: list[dict[str, float]] = json.loads((folder / "1-64" / "curve.json").read_text())
    return points


def _assert_equal(one: Path, other: Path) -> None:
    ours, theirs = read_trained(one).method, read_trained(other).method
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums over other numbers of threads round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_killed_at_any_time_it_ends_in_the_very_weights_of_one_that_was_not(tmp_path: Path) -> None:
    recipe = tiny_recipe("dinov2", checkpoint_every=1, precision="float32")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    out = tmp_path / "killed"
    process = subprocess.Popen([*_PROGRAM, "dinov2", str(out)], cwd=_ROOT, env=environment)
    try:
        until = time.monotonic() + _PATIENCE_S
        # Its recipe keeps every second step: what decides nothing of the weights may differ.
        while not (out / "1-64" / "checkpoint.pt").exists() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    resumed, whole = train(recipe, out, _ALONE), train(recipe, tmp_path / "whole", _ALONE)
    _assert_equal(resumed, whole)
    assert _curve(out) == _curve(tmp_path / "whole")
    assert not (out / "1-64" / "checkpoint.pt").exists()


@pytest.mark.parametrize("method", METHODS)
def test_a_training_that_goes_on_loses_nothing_of_any_method(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(method)

    def keep_and_die(*state: object) -> None:
        keep(*state)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    # After the second and again after the fourth step.
    for _ in range(2):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(trainer, "keep", keep_and_die)
            train(recipe, tmp_path / "killed", _ALONE)
    _assert_equal(train(recipe, tmp_path / "killed", _ALONE), train(recipe, tmp_path / "whole", _ALONE))


def test_two_processes_learn_what_one_learns_with_a_copy_each_and_shared_out(tmp_path: Path) -> None:
    """MAE's loss has no statistics over the batch, so only the order of sums differs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, *_PROGRAM[1:], "mae", str(tmp_path)]
    subprocess.run(command, cwd=_ROOT, env=environment, check=True, timeout=_PATIENCE_S, capture_output=True)
    alone = read_trained(train(tiny_recipe("mae", precision="float32"), tmp_path / "one", _ALONE)).method
    for strategy in ("ddp", "fsdp"):
        for ours, theirs in zip(_curve(tmp_path / "one"), _curve(tmp_path / strategy), strict=True):
            assert theirs["reconstruction"] == pytest.approx(ours["reconstruction"], abs=1e-4)
        together = read_trained(tmp_path / strategy / "1-64" / "trained.pt").method
        for name, tensor in alone.items():
            assert torch.allclose(tensor, together[name], atol=2e-3), name


def test_a_batch_computed_in_parts_gives_the_same_loss(tmp_path: Path) -> None:
    recipe = tiny_recipe("mae", precision="float32")
    train(recipe, tmp_path / "whole", _ALONE)
    train(recipe, tmp_path / "parts", _ALONE, accumulate=4)
    for ours, theirs in zip(_curve(tmp_path / "whole"), _curve(tmp_path / "parts"), strict=True):
        assert theirs["reconstruction"] == pytest.approx(ours["reconstruction"], abs=1e-4)


@pytest.mark.parametrize("positions", ["drop", "interpolate"])
def test_the_next_stage_goes_on_at_another_size(positions: str, tmp_path: Path) -> None:
    first = {"name": "64", "sizes": [64, 64, 32], "steps": 3, "warm_up_steps": 1, "batch": 8}
    second = {**first, "name": "96", "sizes": [96, 96, 32], "steps": 2, "positions": positions}
    trained = read_trained(train(tiny_recipe("dinov2", stages=[first, second]), tmp_path, _ALONE))
    before = read_trained(tmp_path / "1-64" / "trained.pt").method
    name = "teacher.backbone.pos_embed"
    assert trained.method[name].shape == (1, 1 + 6 * 6, 64)
    # Two steps of a moving average change little: what was learned is still there.
    assert torch.allclose(
        trained.method["teacher.dino_head.layers.0.weight"], before["teacher.dino_head.layers.0.weight"], atol=1e-2
    )
    corners = trained.method[name][0, 1], before[name][0, 1]
    same = torch.corrcoef(torch.stack(corners))[0, 1]
    assert same > 0.9 if positions == "interpolate" else same < 0.5


def test_its_curves_can_be_read_by_tensorboard(tmp_path: Path) -> None:
    recipe = tiny_recipe("mae")
    train(recipe, tmp_path, _ALONE)
    (events,) = (tmp_path / "1-64" / "events").iterdir()
    assert "tfevents" in events.name
    values = [(event.step, value.tag, value.simple_value) for event in _events(events) for value in event.summary.value]
    losses = {step: value for step, tag, value in values if tag == "training/reconstruction"}
    assert losses == pytest.approx({point["step"]: point["reconstruction"] for point in _curve(tmp_path)})


def test_the_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    train(tiny_recipe("mae"), tmp_path, _ALONE)
    with pytest.raises(SettingsError, match="another recipe"):
        train(tiny_recipe("mae", seed=1), tmp_path, _ALONE)


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot share"):
        train(tiny_recipe("mae"), tmp_path, _ALONE, accumulate=3)


def test_a_loss_that_is_not_finite_ends_the_training_and_is_not_kept(tmp_path: Path) -> None:
    recipe = tiny_recipe("mae", checkpoint_every=1)
    wild: PretrainingRecipe = recipe.model_copy(
        update={"optimizer": recipe.optimizer.model_copy(update={"rate": 1e30, "clipped_at": None})}
    )
    with pytest.raises(FloatingPointError, match="smaller rate"):
        train(wild, tmp_path, _ALONE)


def _events(path: Path) -> list[Event]:
    """Records as TensorFlow writes them: length, its CRC, the event, its CRC."""
    content, events, at = path.read_bytes(), [], 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 8], "little")
        assert int.from_bytes(content[at + 8 : at + 12], "little") == masked_crc32c(content[at : at + 8])
        events.append(Event.FromString(content[at + 12 : at + 12 + length]))
        at += 16 + length
    return events
