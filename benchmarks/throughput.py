"""End to end, images per second: `python -m benchmarks.throughput [--studies 60] [--tuned]`.

Studies are received while the worker stands still; then it is let go, and the time until the last result, picture and
delivery is taken. The bound is the lesser of what the engine alone computes and of what the cores allow at the CPU time
per image that was measured on the whole machine: the node's parts and, since they share its cores, PostgreSQL, Redis
and the PACS. Run it on a machine that does nothing else; with the engine on the CPU its own time is in both.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

from pydicom.uid import generate_uid
from rich.console import Console
from rich.progress import track
from sqlalchemy import func, select

from benchmarks.running_node import measured_node
from node.bundles.activation import activate, register
from node.ledger.leases import WORK_TABLES
from schemas.bundle import bundle_folder, read_manifest
from schemas.settings import WorkerSettings
from schemas.tables import Delivery, Inference, Picture, Result, WorkState
from tests.support.live_node import LiveNode
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for
from workers.devices import available_cores, choose_devices
from workers.engine import Engine
from workers.tuning import selftest_images

_WARM_UP = 4
_ENGINE_IMAGES = 100


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=60)
    parser.add_argument("--size", type=int, default=2048, help="rows; columns are 5/6 of it")
    parser.add_argument("--tuned", action="store_true", help="tune the bundle for this machine first")
    arguments = parser.parse_args()
    console = Console(width=110)
    with measured_node(production=True, orthanc=True) as measured:
        folder = measured.folder / "bundle"
        shutil.copytree(bundle_folder(None), folder)
        if arguments.tuned:
            subprocess.run([sys.executable, "-m", "schemas.command_line", "bundle", "tune", folder], check=True)
        node = measured.node
        digest = register(node.ledger, node.home, folder)
        node.ledger.write(lambda session: activate(session, digest))
        parts = [running.process.pid for running in node.start("node", "worker", "delivery")]
        _send(node, measured.folder, _WARM_UP, arguments.size, console)
        _wait_until_done(node, _WARM_UP)
        # Only the process that claims work is stopped; engine and decoders then have nothing to do. PostgreSQL, since
        # of SQLite it might hold the lock.
        os.kill(parts[1], signal.SIGSTOP)
        try:
            _send(node, measured.folder, arguments.studies, arguments.size, console)
            before, machine_before = sum(map(_cpu_seconds, parts)), _machine_cpu_seconds()
        finally:
            started = perf_counter()
            os.kill(parts[1], signal.SIGCONT)
        _wait_until_done(node, _WARM_UP + arguments.studies)
        rate = arguments.studies / (perf_counter() - started)
        own_seconds = (sum(map(_cpu_seconds, parts)) - before) / arguments.studies
        cpu_seconds = (_machine_cpu_seconds() - machine_before) / arguments.studies
        with node.ledger.read() as session:
            engines = session.execute(select(Inference.engine_name, Inference.engine_precision).distinct()).all()
        node.stop()
        engine_rate = _engine_rate(folder)
    cores = available_cores()
    bound = min(engine_rate, cores / cpu_seconds)
    which = "the engine" if bound == engine_rate else "the cores"
    used = ", ".join(f"{name} {precision}" for name, precision in engines)
    console.print(
        f"{measured.mode}, {used}, {arguments.studies} studies of {arguments.size} rows: {rate:.2f} images/s\n"
        f"engine alone {engine_rate:.2f} images/s; {cpu_seconds:.3f} CPU s per image ({own_seconds:.3f} of the node) "
        f"on {cores} cores allow {cores / cpu_seconds:.2f}; {which} bind\n"
        f"ratio to the bound {rate / bound:.2f} (aim 0.85)"
    )


def _send(node: LiveNode, folder: Path, count: int, size: int, console: Console) -> None:
    path = folder / "phantom.dcm"
    for number in track(range(count), "sending", console=console, transient=True):

        def stamp(dataset: object, number: int = number) -> None:
            dataset.PixelData = os.urandom(2) + dataset.PixelData[2:]  # type: ignore[attr-defined]
            dataset.StudyInstanceUID = generate_uid(prefix=None)  # type: ignore[attr-defined]

        write_phantom(path, seed=number % 5, rows=size, columns=size * 5 // 6, change=stamp)
        assert node.send(path)[0].status == 0


def _wait_until_done(node: LiveNode, studies: int) -> None:
    def done() -> bool:
        with node.ledger.read() as session:
            ended = [
                session.scalar(select(func.count()).select_from(table).where(table.state == WorkState.DONE))
                for table in (Inference, Result, Picture, Delivery)
            ]
            open_ = [
                session.scalar(select(func.count()).select_from(table).where(table.state != WorkState.DONE))
                for table in WORK_TABLES
            ]
        return all((count or 0) >= studies for count in ended) and not any(open_)

    wait_for(f"{studies} studies analysed, drawn and delivered", done, 1800, every=0.1)


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process, its ended children and its living descendants."""
    tree: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        key = int(stat.parent.name)
        tree.setdefault(int(fields[1]), []).append(key)
        spent[key] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    total, waiting = 0.0, [pid]
    while waiting:
        each = waiting.pop()
        total += spent.get(each, 0.0)
        waiting += tree.get(each, [])
    return total


def _machine_cpu_seconds() -> float:
    """Time that all cores together have worked since the start of the machine."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _waiting, *rest = map(int, fields[:8])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def _engine_rate(folder: Path) -> float:
    """Images per second through the engine and nothing else."""
    manifest = read_manifest(folder)
    images = list(islice(cycle(selftest_images(folder)), _ENGINE_IMAGES))
    engine = Engine(folder, manifest, choose_devices("auto"), WorkerSettings())
    engine.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda each: engine.run(each.pixels, detail=each.detail), images[:8]))
            started = perf_counter()
            list(pool.map(lambda each: engine.run(each.pixels, detail=each.detail), images))
            return _ENGINE_IMAGES / (perf_counter() - started)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
