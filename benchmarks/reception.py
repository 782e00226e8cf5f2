"""C-STORE into CheXNode, Orthanc and storescp, by DCMTK's storescu: `python -m benchmarks.reception WHAT`.

large: images of 10 MB, 1 and 4 associations, PDUs of 16 and 128 KiB; TCP_NODELAY=1 for DCMTK and Orthanc, in whose
favour it is. small: objects of 8 KB over one association from a storescu as it comes (Nagle's algorithm on). short:
associations of one image each, 200 in a row and 50 at once, storescu as it comes. CheXNode and Orthanc answer when the
object is durable, storescp before. Each receiver starts anew and empty for each figure; ratios are to Orthanc, of the
medians of all rounds.
"""

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

from pydicom import Dataset
from rich.console import Console
from rich.table import Table

from benchmarks.receivers import CALLED, CALLING, NAMES, Receiver, receiving
from tests.support.peers import require
from tests.support.phantoms import write_phantom

_KIB = 1024
_LARGE = (2500, 2048)


@dataclass
class Measured:
    """Figures of a receiver, one per round."""

    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["large", "small", "short"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, help="objects per round (80 large, 400 small, 200 short in a row)")
    parser.add_argument("--only", choices=NAMES, action="append", help="only this receiver (may be repeated)")
    arguments = parser.parse_args()
    names = arguments.only or list(NAMES)
    console = Console(width=110)
    with tempfile.TemporaryDirectory(prefix="chexnode-benchmark-") as folder:
        if arguments.what == "large":
            paths = write_objects(Path(folder), arguments.count or 80, *_LARGE)
            for associations in (1, 4):
                for pdu in (16 * _KIB, 128 * _KIB):
                    title = f"images of 10 MB, {associations} association(s), PDU {pdu // _KIB} KiB"
                    _rates(console, title, names, arguments.rounds, paths, associations, pdu, no_delay=True)
        elif arguments.what == "small":
            paths = write_objects(Path(folder), arguments.count or 400, 55, 64)
            title = f"objects of {paths[0].stat().st_size / 1000:.0f} KB, 1 association, storescu as it comes"
            _rates(console, title, names, arguments.rounds, paths, 1, 128 * _KIB, no_delay=False)
        else:
            paths = write_objects(Path(folder), arguments.count or 200, 1000, 1000)
            _times(console, "one after the other", names, arguments.rounds, paths, at_once=1)
            _times(console, "50 at once", names, arguments.rounds, paths[:50], at_once=50)


def write_objects(folder: Path, count: int, rows: int, columns: int) -> list[Path]:
    """Frontal radiographs with UIDs and pixels of their own, five of a study."""
    study: Dataset | None = None
    paths = []

    def noise(dataset: Dataset) -> None:
        dataset.PixelData = os.urandom(rows * columns * 2)

    for number in range(count):
        if number % 5 == 0:
            study = None
        paths.append(folder / f"{number:04}.dcm")
        study = write_phantom(paths[-1], study=study, rows=rows, columns=columns, change=noise)
    return paths


def _rates(
    console: Console,
    title: str,
    names: Sequence[str],
    rounds: int,
    paths: Sequence[Path],
    associations: int,
    pdu: int,
    *,
    no_delay: bool,
) -> None:
    def measure(receiver: Receiver, figures: Measured) -> None:
        # The first object of a process is slow everywhere.
        _wait([_send(receiver, paths[:1], pdu, no_delay)])
        cpu, started = receiver.cpu_seconds(), perf_counter()
        rest = paths[1:]
        _wait([_send(receiver, rest[start::associations], pdu, no_delay) for start in range(associations)])
        figures.seconds.append(perf_counter() - started)
        figures.rates.append(len(rest) / figures.seconds[-1])
        figures.cpu_ms.append((receiver.cpu_seconds() - cpu) / len(rest) * 1e3)
        figures.megabytes.append(receiver.peak_bytes() / 1e6)

    measured = _measure(names, rounds, pdu, no_delay, measure)
    table = Table("receiver", "objects/s", "all rounds", "CPU ms/object", "memory MB", "to Orthanc", title=title)
    for name, figures in measured.items():
        rounds_text = ", ".join(f"{rate:.1f}" for rate in figures.rates)
        row = [name, f"{median(figures.rates):.1f}", rounds_text, f"{median(figures.cpu_ms):.1f}"]
        ratio = _ratio(figures.rates, measured.get("Orthanc", Measured()).rates)
        table.add_row(*row, f"{max(figures.megabytes):.0f}", ratio)
    console.print(table)


def _times(
    console: Console, title: str, names: Sequence[str], rounds: int, paths: Sequence[Path], *, at_once: int
) -> None:
    pdu = 128 * _KIB

    def measure(receiver: Receiver, figures: Measured) -> None:
        _wait([_send(receiver, [paths[0]], pdu, False)])
        for start in range(0, len(paths), at_once):
            begun = perf_counter()
            running = [_send(receiver, [path], pdu, False) for path in paths[start : start + at_once]]
            figures.seconds += [seconds - begun for seconds in _wait(running)]
        figures.megabytes.append(receiver.peak_bytes() / 1e6)

    measured = _measure(names, rounds, pdu, False, measure)
    table = Table("receiver", "p50 ms", "p95 ms", "n", "memory MB", "p50 to Orthanc", title=f"one image each, {title}")
    for name, figures in measured.items():
        p95 = quantiles(figures.seconds, n=20)[-1]
        ratio = _ratio(figures.seconds, measured.get("Orthanc", Measured()).seconds)
        row = [name, f"{median(figures.seconds) * 1e3:.0f}", f"{p95 * 1e3:.0f}", str(len(figures.seconds))]
        table.add_row(*row, f"{max(figures.megabytes):.0f}", ratio)
    console.print(table)


def _measure(
    names: Sequence[str], rounds: int, pdu: int, no_delay: bool, measure: Callable[[Receiver, Measured], None]
) -> dict[str, Measured]:
    """Round by round, so that what else the machine does hits all receivers."""
    measured = {name: Measured() for name in names}
    for _ in range(rounds):
        for name, figures in measured.items():
            # What the one before left in the page cache is not to be written in this one's time.
            os.sync()
            with receiving(name, pdu, no_delay=no_delay) as receiver:
                measure(receiver, figures)
    return measured


def _ratio(figures: Sequence[float], reference: Sequence[float]) -> str:
    return f"{median(figures) / median(reference):.2f}" if reference else ""


def _send(receiver: Receiver, paths: Sequence[Path], pdu: int, no_delay: bool) -> subprocess.Popen[bytes]:
    command = [require("storescu"), "-R", "-aet", CALLING, "-aec", CALLED, "-pdu", str(pdu), "127.0.0.1"]
    environment = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
    if no_delay:
        environment["TCP_NODELAY"] = "1"
    return subprocess.Popen(
        [*command, str(receiver.port), *map(str, paths)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _wait(senders: Sequence[subprocess.Popen[bytes]]) -> list[float]:
    """When each of them ended, on perf_counter(). Raises RuntimeError when one failed."""
    ended: dict[int, float] = {}
    left = {sender.pid: sender for sender in senders}
    while left:
        process_id, status = os.wait()
        sender = left.pop(process_id, None)
        if sender is None:
            continue
        ended[process_id] = perf_counter()
        sender.returncode = os.waitstatus_to_exitcode(status)
        assert sender.stderr is not None
        said = sender.stderr.read().decode(errors="replace")
        sender.stderr.close()
        if sender.returncode:
            raise RuntimeError(f"storescu failed: {said[-2000:]}")
    return [ended[sender.pid] for sender in senders]


if __name__ == "__main__":
    main()
