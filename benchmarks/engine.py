"""Engine, arrays in and arrays out: `python -m benchmarks.engine [--images 200] [--bundle FOLDER]`.

Prints throughput over a queue of images against the bare forward pass of the same backend (turn and turn about, so
that both have the same machine), and what a crash, a kill and a hang cost the others.
"""

import argparse
import os
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice, pairwise
from pathlib import Path
from time import perf_counter

# As in an engine process; read when torch is imported.
import workers.engine_preload

assert workers.engine_preload

import numpy as np  # noqa: E402
import structlog  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402
from rich.table import Table  # noqa: E402

from schemas.bundle import bundle_folder, read_manifest  # noqa: E402
from schemas.errors import EngineError  # noqa: E402
from schemas.settings import WorkerSettings  # noqa: E402
from tests.workers.poison import Poison, image, poison_bundle  # noqa: E402
from workers.backends.choice import Chosen, load_chosen  # noqa: E402
from workers.devices import choose_devices  # noqa: E402
from workers.engine import Engine  # noqa: E402
from workers.preparation import Prepared  # noqa: E402
from workers.second_look import look_closer  # noqa: E402
from workers.tuning import selftest_images  # noqa: E402

#: Blocks of the queue: the bare pass and the engine take turns.
_BLOCKS = 8
_DEADLINE_SECONDS = 5.0


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    console = Console(width=110)
    _throughput(bundle_folder(arguments.bundle), choose_devices(arguments.device)[0], arguments.images, console)
    _mishaps(console)


def _throughput(folder: Path, device: str, count: int, console: Console) -> None:
    manifest = read_manifest(folder)
    images = list(islice(cycle(selftest_images(folder)), count // _BLOCKS))
    settings = WorkerSettings()
    batch = 1 if device == "cpu" else settings.batch
    # The engine process first: a fork server has to be started before this process has CUDA.
    engine, again = (Engine(folder, manifest, [device], settings) for _ in range(2))
    started = perf_counter()
    (ready,) = engine.start()
    first = perf_counter() - started
    started = perf_counter()
    again.start()
    later = perf_counter() - started
    again.close()
    chosen = load_chosen(folder, device, batch)
    bare, queued = [], []
    try:
        with Progress(console=console, transient=True) as progress, ThreadPoolExecutor(2 * batch + 2) as pool:
            for _ in progress.track(range(_BLOCKS + 1), description="blocks of images"):
                started = perf_counter()
                for at in range(0, len(images), batch):
                    _both_looks(chosen, images[at : at + batch])
                bare.append(perf_counter() - started)
                started = perf_counter()
                list(pool.map(lambda each: engine.run(each.pixels, detail=each.detail), images))
                queued.append(perf_counter() - started)
    finally:
        engine.close()
    # The first block warms up.
    size = manifest.preprocessing.size
    rates = [len(images) * _BLOCKS / sum(times[1:]) for times in (bare, queued)]
    console.print(
        f"{ready.name} {ready.precision} on {ready.device}, {len(images) * _BLOCKS} images of {size} px: bare forward "
        f"{rates[0]:.2f} images/s, through the engine {rates[1]:.2f}, ratio {rates[1] / rates[0]:.3f} (aim 0.9)\n"
        f"start of an engine: the first {first:.2f} s (imports torch), later ones {later:.2f} s"
    )


def _both_looks(chosen: Chosen, images: list[Prepared]) -> None:
    outputs = chosen.backend.launch(np.stack([each.pixels for each in images]))()
    closer = chosen.closer
    if closer is not None:
        details = [each.detail for each in images if each.detail is not None]
        look_closer(outputs.dense, details, chosen.manifest, lambda crops: closer.launch(crops)().dense)


def _mishaps(console: Console) -> None:
    table = Table("mishap", "images beside it", "of them failed", "longest gap between outputs, s", "watchdog, s")
    with tempfile.TemporaryDirectory() as name:
        bundle = poison_bundle(Path(name) / "bundle")
        settings = WorkerSettings(engine_deadline_seconds=_DEADLINE_SECONDS)
        for what, poison in (("crash", Poison.CRASH), ("hang", Poison.HANG), ("kill -9 from outside", None)):
            engine = Engine(*bundle, ["cpu"], settings)
            engine.start()
            try:
                good, failed, gap = _beside(engine, poison)
            finally:
                engine.close()
            watchdog = f"{_DEADLINE_SECONDS:g}" if poison is Poison.HANG else "-"
            table.add_row(what, str(good), str(failed), f"{gap:.2f}", watchdog)
    console.print(table)


def _beside(engine: Engine, poison: Poison | None) -> tuple[int, int, float]:
    """Images that were computed around one mishap, how many failed, and the longest time without any."""
    done: list[float] = []
    failed = 0

    def run(picture: NDArray[np.float32]) -> None:
        nonlocal failed
        try:
            engine.run(picture)
            done.append(perf_counter())
        except EngineError:
            failed += 1

    with ThreadPoolExecutor(5) as pool:
        first = [pool.submit(run, image(Poison.NONE, number % 100)) for number in range(500)]
        first[100].result()
        if poison is None:
            os.kill(engine.processes[0], signal.SIGKILL)
        else:
            bad = pool.submit(engine.run, image(poison), 0)
        for future in first:
            future.result()
        if poison is not None:
            assert isinstance(bad.exception(), EngineError)
    return len(first), failed, max(later - earlier for earlier, later in pairwise(sorted(done)))


if __name__ == "__main__":
    main()
