"""Hostile input: `python -m benchmarks.fuzz [--count 100000] [--seed 0]`.

Starts a receiver of its own, throws inputs of every class at it (tests/fuzz) with a good sender in between, lets slow
senders hang on to it, and prints what each class reached, what was answered, hangs, deaths and the peak of its memory.
What it calls a hang or a death it names by class and seed: tests.fuzz.inputs.make(class, seed) makes it again.
"""

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.fuzz.campaign import Findings, Receiver, attack, cut_off_after, lorises, spread
from tests.fuzz.connection import HangError, Reached

_CHUNK = 1000
#: Of tests/fuzz/campaign.py: a second of silence, three for a message; without an association the ARTIM timer's 30.
_LORIS_SECONDS = 60.0


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="inputs in all classes together")
    parser.add_argument("--seed", type=int, default=0, help="the first seed of each class")
    arguments = parser.parse_args()
    console = Console(width=130)
    with tempfile.TemporaryDirectory() as name:
        receiver = Receiver(Path(name))
        try:
            started = time.monotonic()
            findings = _attack(receiver, arguments.count, arguments.seed, console)
            console.print(_table(findings, time.monotonic() - started))
            console.print(_lorises(receiver))
        finally:
            receiver.stop()
    console.print("statuses: " + ", ".join(f"0x{code:04X} {n}" for code, n in findings.statuses.most_common()))
    for hang in findings.hangs:
        console.print(f"[red]hang:[/] {hang}")


def _attack(receiver: Receiver, count: int, seed: int, console: Console) -> Findings:
    total = Findings()
    for start in track(range(0, count, _CHUNK), "inputs, in thousands", console=console, transient=True):
        found = attack(receiver, spread(min(_CHUNK, count - start), seed, start))
        total.add(found)
    return total


def _table(findings: Findings, seconds: float) -> Table:
    states = [state for state in Reached if any(found[state] for found in findings.reached.values())]
    count = sum(findings.inputs.values())
    title = (
        f"{count} inputs in {seconds:.0f} s, {len(findings.hangs)} hangs, 0 deaths; slowest good object "
        f"{findings.slowest_bystander:.2f} s; memory {findings.memory_before >> 20} MiB, "
        f"peak {findings.memory_peak >> 20} MiB"
    )
    table = Table("class", "inputs", *states, title=title)
    for kind, found in findings.reached.items():
        table.add_row(kind, str(findings.inputs[kind]), *(str(found[state]) for state in states))
    return table


def _lorises(receiver: Receiver) -> Table:
    slow = lorises() * 3

    def bear(number: int) -> float | None:
        try:
            return cut_off_after(slow[number], receiver.port, _LORIS_SECONDS)
        except HangError:
            return None

    with ThreadPoolExecutor(len(slow)) as pool:
        futures = [pool.submit(bear, number) for number in range(len(slow))]
        bystander = receiver.serve_bystander()
        borne = [future.result() for future in futures]
    table = Table(
        "slow sender",
        "cut off after, s",
        title=f"{len(slow)} slow senders at a time; a good object meanwhile took {bystander:.2f} s",
    )
    for number, each in enumerate(slow[: len(slow) // 3]):
        times = borne[number :: len(slow) // 3]
        said = ", ".join("never" if seconds is None else f"{seconds:.1f}" for seconds in times)
        table.add_row(each.name, said)
    return table


if __name__ == "__main__":
    main()
