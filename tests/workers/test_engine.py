"""The engine process: the same numbers as the bundle, the most urgent first, and only the poison fails."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from schemas.bundle import Manifest, bundle_folder, read_manifest
from schemas.errors import EngineError, EngineUnavailableError
from schemas.settings import WorkerSettings
from tests.support.processes import wait_for
from workers.bundle import load_bundle
from workers.engine import Batching, Engine
from workers.output import ModelOutput

FOLDER = bundle_folder(None)
SETTINGS = WorkerSettings(engine_deadline_seconds=5)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read_manifest(FOLDER)


@pytest.fixture(scope="module")
def engine(manifest: Manifest) -> Iterator[Engine]:
    engine = Engine(FOLDER, manifest, "cpu", SETTINGS, Batching(4, 0.2))
    engine.start()
    yield engine
    engine.close()


def image(manifest: Manifest, seed: int) -> NDArray[np.float32]:
    size = manifest.preprocessing.size
    return np.random.default_rng(seed).normal(size=(1, size, size)).astype(np.float32)


def test_the_engine_gives_what_the_bundle_gives(engine: Engine, manifest: Manifest) -> None:
    picture = image(manifest, 1)
    output = engine.run(picture)
    loaded = load_bundle(FOLDER)
    with torch.inference_mode():
        logits, attention, dense = loaded.network(torch.from_numpy(picture)[None])
    np.testing.assert_allclose(output.logits, logits[0].numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(output.dense.astype(np.float32), dense[0].numpy(), rtol=1e-2, atol=2e-2)
    assert output.attention.shape[0] == attention.shape[2]
    np.testing.assert_allclose(output.attention.astype(np.float32).sum(axis=(1, 2)), 1.0, atol=0.02)


def test_of_a_batch_only_the_poisonous_image_fails(engine: Engine, manifest: Manifest) -> None:
    pictures = [image(manifest, seed) for seed in range(4)]
    pictures[2][:] = np.nan
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(engine.run, picture) for picture in pictures]
    failed = [future.exception() for future in futures]
    assert [isinstance(error, EngineError) for error in failed] == [False, False, True, False]
    alone = engine.run(pictures[0])
    np.testing.assert_allclose(futures[0].result().logits, alone.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_dead_or_hung_engine_is_replaced(engine: Engine, manifest: Manifest, number: signal.Signals) -> None:
    engine.run(image(manifest, 1))  # is running
    assert engine._process and engine._process.pid
    os.kill(engine._process.pid, number)
    with pytest.raises(EngineError):
        engine.run(image(manifest, 2))
    assert np.isfinite(engine.run(image(manifest, 2)).logits).all()


def test_the_most_urgent_image_goes_first(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(FOLDER, manifest, "cpu", SETTINGS, Batching(1, 0.0))
    forward = engine._forward
    images = {priority: image(manifest, priority) for priority in (50, 40, 30, 10, 20)}
    order: list[int] = []
    gate = threading.Event()

    def forward_in_turn(batch: list[NDArray[np.float32]]) -> list[ModelOutput]:
        order.extend(priority for priority, picture in images.items() for given in batch if given is picture)
        assert gate.wait(30)
        return forward(batch)

    monkeypatch.setattr(engine, "_forward", forward_in_turn)
    engine.start()
    try:
        with ThreadPoolExecutor(len(images)) as pool:
            futures = [pool.submit(engine.run, images[50], 50)]
            wait_for("the first image is in the engine", lambda: order == [50])
            futures += [pool.submit(engine.run, images[priority], priority) for priority in (40, 30, 10, 20)]
            wait_for("the others wait", lambda: len(engine._jobs) == 4)
            gate.set()
            for future in futures:
                assert np.isfinite(future.result().logits).all()
    finally:
        gate.set()
        engine.close()
    assert order == [50, 10, 20, 30, 40]


def test_a_bundle_that_does_not_load_says_why(manifest: Manifest) -> None:
    engine = Engine(FOLDER / "heads", manifest, "cpu", SETTINGS)
    with pytest.raises(EngineError, match=r"manifest\.json"):
        engine.start()
    engine.close()


def test_an_engine_that_does_not_start_in_time_is_killed_and_said_to_be_unavailable(manifest: Manifest) -> None:
    engine = Engine(FOLDER, manifest, "cpu", WorkerSettings(engine_start_seconds=0.05))
    with pytest.raises(EngineUnavailableError):
        engine.start()
    assert engine._process is None
    engine.close()


def test_the_workers_process_needs_no_torch() -> None:
    import subprocess

    code = "import sys, workers.tasks, workers.worker, workers.analyze; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
