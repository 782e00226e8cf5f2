"""The fault matrix: `python -m benchmarks.fault_matrix [--mode alternate] [--states ...] [--mutants]`.

Each state of the chain at which a part dies, crossed with each condition around it (docs/faults.md), on a node, an
Orthanc and, in the production mode, a PostgreSQL and a Redis of its own. "alternate" runs each pair once, in the two
modes by turns; "both" runs it in each. Prints the table, the distinct pairs, and what was lost or doubled; then, with
--mutants, the protections that were taken out and whether a trial found out.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.doctor.examining import ConfiguredOrthanc
from tests.faults.conditions import CONDITIONS, Condition
from tests.faults.invariant import InvariantBroken
from tests.faults.matrix import PROOFS, Trial, possible, run
from tests.faults.mutants import BY_NAME
from tests.faults.rig import Rig, Servers
from tests.faults.states import STATES, Part, State
from tests.support.peers import Postgres, Redis

_MODES = ("embedded", "production")
_PROOF_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Tried:
    """One trial in one mode."""

    trial: Trial
    mode: str
    #: What was broken; "" when nothing was.
    broken: str
    seconds: float


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["alternate", "both", *_MODES], default="alternate")
    parser.add_argument("--states", nargs="+", metavar="STATE", choices=[each.name for each in STATES])
    parser.add_argument("--conditions", nargs="+", metavar="CONDITION", choices=[each.name for each in CONDITIONS])
    parser.add_argument("--count", type=int, help="that many of the pairs, taken at random")
    parser.add_argument("--seed", type=int, default=0, help="of --count")
    parser.add_argument("--mutants", action="store_true", help="take out one protection after the other as well")
    arguments = parser.parse_args()
    console = Console(width=200)
    states = [each for each in STATES if arguments.states is None or each.name in arguments.states]
    conditions = [each for each in CONDITIONS if arguments.conditions is None or each.name in arguments.conditions]
    trials = [Trial(state, condition) for state in states for condition in conditions]
    if arguments.count is not None:
        random.Random(arguments.seed).shuffle(trials)
        trials = trials[: arguments.count]
    tried: list[Tried] = []
    for number, mode in enumerate(_MODES):
        if arguments.mode in (mode, "both"):
            tried += _run_all(mode, trials, console)
        elif arguments.mode == "alternate":
            tried += _run_all(mode, trials[number::2], console)
    console.print(_table(states, conditions, tried))
    pairs = {(each.trial.state.name, each.trial.condition.name) for each in tried}
    broken = [each for each in tried if each.broken]
    words = ", ".join(f"{kind} {sum(each.broken.startswith(kind) for each in broken)}" for kind in ("lost", "doubled"))
    console.print(f"{len(tried)} trials, {len(pairs)} distinct pairs: {words}, other failures included {len(broken)}")
    for each in broken:
        console.print(f"[red]{each.mode}, {each.trial.state.name}, {each.trial.condition.name}:[/] {each.broken}")
    if arguments.mutants:
        console.print(_proofs())


@contextmanager
def _rig(mode: str) -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in ("orthanc", "postgres", "redis"):
            (folder / each).mkdir()
        orthanc = ConfiguredOrthanc(folder / "orthanc")
        production = mode == "production"
        postgres, redis = (Postgres(folder / "postgres"), Redis(folder / "redis")) if production else (None, None)
        rig = Rig(folder / "rig", Servers(mode, orthanc, postgres, redis))
        try:
            rig.start(*Part)
            yield rig
        finally:
            rig.close()
            for server in (orthanc, postgres, redis):
                if server is not None:
                    server.stop()


def _run_all(mode: str, trials: Sequence[Trial], console: Console) -> list[Tried]:
    """Every possible trial; after one that failed the next gets a node of its own."""
    tried: list[Tried] = []
    waiting = list(trials)
    while waiting:
        with _rig(mode) as rig:
            while waiting:
                trial = waiting.pop(0)
                if not possible(trial, rig):
                    continue
                started, broken = time.monotonic(), ""
                try:
                    run(rig, trial)
                except AssertionError as error:
                    broken = str(error) if isinstance(error, InvariantBroken) else f"not tried: {error}"
                tried.append(Tried(trial, mode, broken, time.monotonic() - started))
                console.print(
                    f"{len(trials) - len(waiting)}/{len(trials)} {mode}, {trial.state.name}, {trial.condition.name}: "
                    f"{tried[-1].seconds:.1f} s {broken[:300] or 'held'}",
                    markup=False,
                )
                if broken:
                    break
    return tried


def _table(states: Sequence[State], conditions: Sequence[Condition], tried: Sequence[Tried]) -> Table:
    table = Table("state", "part", *(each.name for each in conditions), title="e: embedded, p: production; lower: held")
    for state in states:
        cells = []
        for condition in conditions:
            here = [each for each in tried if each.trial == Trial(state, condition)]
            cells.append(
                " ".join(f"[red]{each.mode[0].upper()}[/]" if each.broken else each.mode[0] for each in here) or "-"
            )
        table.add_row(state.name, state.part, *cells)
    return table


def _proofs() -> Table:
    table = Table("without", "state", "condition", "found out by", title="What the matrix finds out (embedded)")
    for name, trial in PROOFS.items():
        # What a mutant breaks stays broken: each has a node of its own.
        with _rig("embedded") as rig:
            rig.replace(BY_NAME[name].part, name)
            try:
                run(rig, trial, _PROOF_PATIENCE_SECONDS)
                found = "[red]not found out[/]"
            except InvariantBroken as error:
                found = str(error)
        table.add_row(name, trial.state.name, trial.condition.name, found)
    return table


if __name__ == "__main__":
    main()
