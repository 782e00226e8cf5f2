"""The engine: the same numbers as the bundle, the most urgent first, and only the poison fails."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.bundle import Manifest, bundle_digest, bundle_folder, read_manifest
from schemas.errors import EngineError, EngineUnavailableError
from schemas.settings import WorkerSettings
from tests.support.processes import Running, wait_for
from tests.workers.poison import FITTING, Poison, PoisonFolder, image, log_of, poison_bundle
from workers.bundle import load_bundle, normalise
from workers.engine import Engine
from workers.engine_lane import Batching
from workers.engine_queue import Computed
from workers.placement import Placement
from workers.second_look import Detail, detail_preprocessing

SETTINGS = WorkerSettings(engine_deadline_seconds=4)
#: Four images go together when they come within two seconds.
TOGETHER = Batching(4, 2.0, 1)


_WORDS = {
    Poison.EXIT: "process died. Exit status 3.",
    Poison.CRASH: f"process died. Exit status -{signal.SIGSEGV}.",
    Poison.RAISE: "ValueError: a poisonous image",
    Poison.HANG: "No answer within 4 s",
}


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[PoisonFolder, Manifest]:
    return poison_bundle(tmp_path / "bundle")


@contextmanager
def running(
    bundle: tuple[PoisonFolder, Manifest], batching: Batching | None = None, devices: int = 1
) -> Iterator[Engine]:
    engine = Engine(*bundle, ["cpu"] * devices, SETTINGS, batching)
    try:
        engine.start()
        yield engine
    finally:
        bundle[0].with_name("gate").touch()
        engine.close()


def run_together(engine: Engine, poisons: list[Poison]) -> "list[Future[Computed]]":
    """Images number 1, 2, ... with these poisons, all at once; returns when all are done."""
    with ThreadPoolExecutor(len(poisons)) as pool:
        return [pool.submit(engine.run, image(poison, number)) for number, poison in enumerate(poisons, 1)]


def test_the_engine_gives_what_the_bundle_gives() -> None:
    folder = bundle_folder(None)
    manifest = read_manifest(folder)
    size = manifest.preprocessing.size
    picture = np.random.default_rng(1).uniform(size=(size, size)).astype(np.float32)
    finer = detail_preprocessing(manifest)
    detail = None if finer is None else Detail.of(picture, Placement.of(size, size, finer))
    engine = Engine(folder, manifest, ["cpu"], WorkerSettings())
    try:
        ready = engine.start()
        computed = engine.run(picture, detail=detail)
    finally:
        engine.close()
    assert ready == [computed.by] and computed.by.bundle_digest == bundle_digest(folder)
    with torch.inference_mode():
        expected = load_bundle(folder).network(normalise(torch.from_numpy(picture)[None], manifest.preprocessing))
    output = computed.output
    # Whatever engine was chosen on this host keeps its scores within 0.02.
    np.testing.assert_allclose(output.logits, expected.logits[0].numpy(), rtol=0, atol=0.1)
    assert np.corrcoef(output.dense.ravel().astype(float), expected.dense[0].numpy().ravel())[0, 1] > 0.999
    assert output.attention.shape[0] == len(manifest.classes)
    np.testing.assert_allclose(output.attention.astype(np.float32).sum(axis=(1, 2)), 1.0, atol=0.03)


def test_two_batches_under_way_give_each_image_its_own_output_whatever_befalls_them(
    bundle: tuple[PoisonFolder, Manifest],
) -> None:
    poisons = [Poison.NONE, Poison.LARGE, Poison.CRASH, Poison.NOT_A_NUMBER, Poison.RAISE, Poison.NONE] * 5
    with running(bundle, Batching(3, 0.0, 2)) as engine:
        futures = run_together(engine, poisons)
    with running(bundle) as engine:
        for number, (poison, future) in enumerate(zip(poisons, futures, strict=True), 1):
            if poison in (Poison.NONE, Poison.LARGE):
                alone = engine.run(image(poison, number)).output
                np.testing.assert_allclose(future.result().output.logits, alone.logits, rtol=1e-5, atol=1e-6)
            else:
                assert isinstance(future.exception(), EngineError)


@pytest.mark.parametrize("poison", [Poison.EXIT, Poison.CRASH, Poison.RAISE, Poison.HANG], ids=str)
def test_of_a_batch_only_the_poisonous_image_fails(bundle: tuple[PoisonFolder, Manifest], poison: Poison) -> None:
    with running(bundle, TOGETHER) as engine:
        futures = run_together(engine, [Poison.NONE, poison, Poison.NONE, Poison.NONE])
        failed = [future.exception() for future in futures]
        assert [isinstance(error, EngineError) for error in failed] == [False, True, False, False]
        assert _WORDS[poison] in str(failed[1])
        assert len(log_of(bundle[0])) >= 8  # they did go together first
    with running(bundle) as engine:
        for number in (1, 3, 4):
            alone = engine.run(image(Poison.NONE, number)).output
            np.testing.assert_allclose(futures[number - 1].result().output.logits, alone.logits, rtol=1e-5, atol=1e-6)


def test_an_image_whose_output_is_not_a_number_fails_without_any_restart(
    bundle: tuple[PoisonFolder, Manifest],
) -> None:
    with running(bundle, TOGETHER) as engine:
        before = engine.processes
        futures = run_together(engine, [Poison.NONE, Poison.NONE, Poison.NOT_A_NUMBER, Poison.NONE])
        assert [future.exception() is not None for future in futures] == [False, False, True, False]
        assert "NaN" in str(futures[2].exception())
        assert engine.processes == before


def test_out_of_memory_halves_the_batch_for_good_and_kills_nothing(bundle: tuple[PoisonFolder, Manifest]) -> None:
    with running(bundle, TOGETHER) as engine:
        before = engine.processes
        for future in run_together(engine, [Poison.LARGE] * 4):
            assert np.isfinite(future.result().output.logits).all()
        tried = log_of(bundle[0])
        assert len(tried) == 8, "all four, then two and two"
        for future in run_together(engine, [Poison.LARGE] * 2 * FITTING):
            assert future.exception() is None
        assert len(log_of(bundle[0])) == 12, "never four again"
        with pytest.raises(EngineError, match="Not even one image fits into the memory of cpu"):
            engine.run(image(Poison.HUGE, 1))
        assert engine.processes == before


def test_an_engine_that_dies_while_it_has_nothing_to_do_loses_no_image(bundle: tuple[PoisonFolder, Manifest]) -> None:
    with running(bundle) as engine:
        for number in (signal.SIGKILL, signal.SIGSEGV):
            (process,) = engine.processes
            os.kill(process, number)
            wait_for("it is dead", lambda: engine.processes == [])
            assert np.isfinite(engine.run(image()).output.logits).all()


def test_an_image_whose_engine_was_killed_by_somebody_else_is_tried_again(
    bundle: tuple[PoisonFolder, Manifest],
) -> None:
    with running(bundle) as engine, ThreadPoolExecutor(1) as pool:
        future = pool.submit(engine.run, image(Poison.GATE, 1))
        wait_for("it is in the engine", lambda: log_of(bundle[0]) == [1])
        os.kill(engine.processes[0], signal.SIGKILL)
        wait_for("it is in the next engine", lambda: log_of(bundle[0]) == [1, 1])
        bundle[0].with_name("gate").touch()
        assert np.isfinite(future.result().output.logits).all()


def test_an_engine_that_is_stopped_is_replaced(bundle: tuple[PoisonFolder, Manifest]) -> None:
    with running(bundle) as engine:
        (process,) = engine.processes
        os.kill(process, signal.SIGSTOP)
        with pytest.raises(EngineError, match="No answer within 4 s"):
            engine.run(image())
        assert np.isfinite(engine.run(image()).output.logits).all()
        assert engine.processes != [process]


@pytest.mark.parametrize("devices", [1, 2])
def test_the_most_urgent_image_goes_first_whatever_the_device(
    bundle: tuple[PoisonFolder, Manifest], devices: int
) -> None:
    priorities = [40, 30, 10, 20]
    with running(bundle, devices=devices) as engine, ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(engine.run, image(Poison.GATE, 50), 50) for _ in range(devices)]
        wait_for("every device is busy", lambda: log_of(bundle[0]) == [50] * devices)
        futures += [pool.submit(engine.run, image(Poison.GATE, priority), priority) for priority in priorities]
        wait_for("the others wait", lambda: engine.waiting == len(priorities))
        bundle[0].with_name("gate").touch()
        for future in futures:
            future.result()
    order = log_of(bundle[0])[devices:]
    # Two devices may finish in either order, but begin in this one.
    for place, priority in enumerate(sorted(priorities)):
        assert abs(order.index(priority) - place) < devices


@pytest.mark.parametrize("drain", [True, False])
def test_closing_finishes_what_is_under_way_and_what_waits_when_it_is_to(
    bundle: tuple[PoisonFolder, Manifest], drain: bool
) -> None:
    with running(bundle) as engine, ThreadPoolExecutor(8) as pool:
        under_way = pool.submit(engine.run, image(Poison.GATE, 1))
        wait_for("the first image is in the engine", lambda: log_of(bundle[0]) == [1])
        waiting = [pool.submit(engine.run, image(Poison.NONE, number)) for number in (2, 3)]
        wait_for("the others wait", lambda: engine.waiting == 2)
        closing = pool.submit(engine.close, drain)
        wait_for("it takes no more", lambda: engine.closed)
        with pytest.raises(EngineError, match="closed"):
            engine.run(image())
        bundle[0].with_name("gate").touch()
        assert under_way.exception() is None
        assert [isinstance(future.exception(), EngineError) for future in waiting] == [not drain, not drain]
        closing.result()
        assert engine.processes == []


def test_two_engines_stand_side_by_side(bundle: tuple[PoisonFolder, Manifest]) -> None:
    with running(bundle) as old, running(bundle) as new:
        first = old.run(image(Poison.NONE, 1)).output
        old.close(drain=True)
        np.testing.assert_array_equal(new.run(image(Poison.NONE, 1)).output.logits, first.logits)


def test_a_bundle_that_does_not_load_says_why(bundle: tuple[PoisonFolder, Manifest]) -> None:
    engine = Engine(bundle[0] / "heads", bundle[1], ["cpu"], SETTINGS)
    with pytest.raises(EngineUnavailableError, match=r"manifest\.json"):
        engine.start()
    engine.close()


def test_a_bundle_whose_numbers_differ_is_refused_with_the_difference(bundle: tuple[PoisonFolder, Manifest]) -> None:
    path = bundle[0] / "selftest.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, "logits": arrays["logits"] + 0.75})
    engine = Engine(*bundle, ["cpu"], SETTINGS)
    with pytest.raises(EngineUnavailableError, match=r"differs by 0\.75 where 0\.05 is allowed"):
        engine.start()
    engine.close()


def test_a_bundle_that_was_changed_in_its_place_is_not_served_under_its_old_digest(
    bundle: tuple[PoisonFolder, Manifest],
) -> None:
    with running(bundle) as engine:
        (bundle[0] / "card.md").write_text("# another card\n")
        engine.run(image())
        (process,) = engine.processes
        os.kill(process, signal.SIGKILL)
        wait_for("it is dead", lambda: engine.processes == [])
        with pytest.raises(EngineUnavailableError, match="changed in its place"):
            engine.run(image())


def test_a_device_whose_engine_does_not_come_back_leaves_the_images_to_the_others(
    bundle: tuple[PoisonFolder, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.engine_lane._PAUSE_SECONDS", 0.5)
    with running(bundle, devices=2) as engine:
        (bundle[0] / "card.md").write_text("# another card, so that none starts any more\n")
        first, second = engine.processes
        os.kill(first, signal.SIGKILL)
        wait_for("it is dead", lambda: engine.processes == [second])
        for future in run_together(engine, [Poison.NONE] * 8):
            assert future.exception() is None
        os.kill(second, signal.SIGKILL)
        wait_for("it is dead", lambda: engine.processes == [])
        with pytest.raises(EngineUnavailableError):
            engine.run(image())


def test_an_engine_that_does_not_start_in_time_is_killed_and_said_to_be_unavailable(
    bundle: tuple[PoisonFolder, Manifest],
) -> None:
    engine = Engine(*bundle, ["cpu"], WorkerSettings(engine_start_seconds=0.001))
    with pytest.raises(EngineUnavailableError, match=r"No answer within 0\.001 s"):
        engine.start()
    assert engine.processes == []
    engine.close()


_WORKER = """
import sys
from pathlib import Path
from schemas.settings import WorkerSettings
from tests.workers.poison import poison_bundle
from workers.engine import Engine
if __name__ == "__main__":
    engine = Engine(*poison_bundle(Path(sys.argv[1])), ["cpu"], WorkerSettings())
    engine.start()
    print("engine", *engine.processes, flush=True)
    sys.stdin.read()
    import time
    time.sleep(3600)
"""


def test_no_engine_outlives_a_worker_that_was_killed_not_even_one_that_hangs(tmp_path: Path) -> None:
    worker = Running([sys.executable, "-c", _WORKER, tmp_path / "bundle"], tmp_path / "log")
    try:
        line = wait_for("the engine runs", lambda: _line(worker, "engine "))
        engine = int(line.split()[1])
        os.kill(engine, signal.SIGSTOP)
        worker.kill()
        wait_for("the engine is gone too", lambda: not _exists(engine))
    finally:
        worker.stop()


def test_the_workers_process_needs_no_torch() -> None:
    code = "import sys, workers.tasks, workers.worker, workers.analyze; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _line(running: Running, start: str) -> str | None:
    assert running.alive, running.output
    return next((line for line in running.output.splitlines() if line.startswith(start)), None)


def _exists(process: int) -> bool:
    """Whether it runs; nobody may have asked for its exit status."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
