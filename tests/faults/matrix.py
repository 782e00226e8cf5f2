"""The fault matrix: each state of the chain under each condition, one trial each, judged by the invariant.

`run` is one trial; benchmarks/fault_matrix.py runs all of them, tests/faults/test_matrix.py a sample.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults import conditions, states
from tests.faults.conditions import Condition, Death, failing
from tests.faults.invariant import (
    Expected,
    InvariantBroken,
    account,
    check_ledger,
    check_pacs,
    check_store,
    settled,
)
from tests.faults.launcher import Action
from tests.faults.pacs import Behaviour
from tests.faults.rig import Rig
from tests.faults.sending import Sender
from tests.faults.states import Part, State
from tests.support.processes import wait_for

#: How long what is around fails when nothing dies of it.
_FAILING_SECONDS = 1.5
#: Until the part has reached its state once nothing around it fails; and until every sender has its answer and every
#: result is delivered once everything runs again.
PATIENCE_SECONDS = 180.0
#: Of a receiver: longer than the lease of anything that it holds.
_FROZEN_SECONDS = 4.0


@dataclass(frozen=True)
class Trial:
    """One cell of the matrix."""

    state: State
    condition: Condition


def trial(state: str, condition: str) -> Trial:
    """By their names."""
    return Trial(states.BY_NAME[state], conditions.BY_NAME[condition])


#: What catches each mutant (tests/faults/mutants.py) but one: the ledger's sync is SQLite's own, and is looked at with
#: strace (tests/faults/test_promise.py).
PROOFS = {
    "no sync of files": trial("after the answer", "power lost"),
    "no sync of folders": trial("after the answer", "power lost"),
    "no sweep": trial("after claim of an image", "nothing else"),
    "no fencing": trial("before handing over", "frozen beyond its lease"),
    "no duplicate check": trial("after the answer", "same instance twice"),
    "answer before commit": trial("before rename", "nothing else"),
    "any answer is success": trial("after claim of a delivery", "PACS out of resources (0xA700)"),
}


def possible(which: Trial, rig: Rig) -> bool:
    """Whether the trial makes sense: nobody can go on while a frozen part holds the ledger's locks."""
    if which.condition.death is Death.FROZEN and which.state.locked:
        return False
    return rig.can_be_full or which.condition.name != "disk full"


def run(rig: Rig, which: Trial, patience: float = PATIENCE_SECONDS) -> None:
    """Send a study and a bystander, let the part die at the state, start it again and check the invariant.

    Raises InvariantBroken when something is lost, doubled or waits for ever, AssertionError when the state was not
    reached.
    """
    state, condition = which.state, which.condition
    started = time.time()
    rig.mend()
    others = {part: running for part, running in rig.parts.items() if part is not state.part}
    sending = condition.prepare(rig)
    path, header = rig.radiograph()
    bystander = Expected(header.StudyInstanceUID, [path])
    studies = [sending.expected, bystander]
    rig.disk.settle()
    with _accounted_for(rig, studies):
        with failing(condition.around, rig) as end:
            action = Action.FREEZE if condition.death is Death.FROZEN else Action.KILL
            try:
                if not state.by_itself:
                    rig.orders.give(state, action)
                senders = [*sending.send(), Sender(rig.node.port, [path])]
                if state.by_itself:
                    _wait_for_first(senders)
                    rig.orders.give(state, action)
                _wait_until_struck(rig, which, end)
            finally:
                rig.orders.withdraw()
            if not condition.around.outlasts:
                end()
            struck = rig.parts[state.part]
            _start_again(rig, which, studies, patience)
            if condition.around.other_destination_goes_on:
                _wait(
                    settled(rig.node.ledger, studies, "archive"), patience, "the other destination waits for the PACS"
                )
            end()
        for sender in senders:
            if not sender.finish(patience):
                raise InvariantBroken(f"waits for ever: a sender is not answered with success: {sender.refusals[-3:]}")
        check_store(rig.node.home / "objects", studies, started - 1)
        _wait(settled(rig.node.ledger, studies), patience, "a result is not delivered")
        check_ledger(rig.node.ledger, studies)
        check_pacs(rig.servers.orthanc.url, rig.node.ledger, studies)
        if not struck.alive:
            _wait(lambda: not members(struck.process.pid), patience, f"what the dead {state.part} had started goes on")
        for part, running in others.items():
            if condition.death is not Death.POWER_LOST and not running.alive:
                raise InvariantBroken(f"the {part} died as well:\n{running.output[-2000:]}")


def members(leader: int) -> list[int]:
    """Processes of the session that `leader` leads, without itself."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and int(folder.name) != leader and state != "Z":
            found.append(int(folder.name))
    return found


@contextmanager
def _accounted_for(rig: Rig, studies: list[Expected]) -> Iterator[None]:
    """What breaks the invariant is said with how far the work is, and what the parts said last."""
    try:
        yield
    except InvariantBroken as error:
        raise InvariantBroken(f"{error}\n{account(rig.node.ledger, studies)}\n{rig.last_words()}") from error


def _wait(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    try:
        wait_for(otherwise, condition, seconds, every=0.05)
    except AssertionError as error:
        raise InvariantBroken(f"waits for ever: {otherwise}") from error


def _wait_for_first(senders: list[Sender]) -> None:
    """Until something is acknowledged, unless what fails around the node prevents it."""
    with suppress(AssertionError):
        wait_for("", lambda: any(sender.acknowledged for sender in senders), _FAILING_SECONDS)


def _wait_until_struck(rig: Rig, which: Trial, end: Callable[[], None]) -> None:
    part = which.state.part

    def struck() -> bool:
        if which.condition.death is Death.FROZEN:
            return rig.frozen(part)
        return not rig.parts[part].alive

    try:
        wait_for("", struck, _FAILING_SECONDS)
    except AssertionError:
        end()
        wait_for(f"the {part} reaches '{which.state.name}'", struck, PATIENCE_SECONDS)
    running = rig.parts[part]
    if not running.alive and running.process.returncode != -signal.SIGKILL:
        raise InvariantBroken(f"the {part} died by itself:\n{running.output[-2000:]}")


def _start_again(rig: Rig, which: Trial, studies: list[Expected], patience: float) -> None:
    part = which.state.part
    if which.condition.death is Death.KILLED:
        rig.start(part)
    elif which.condition.death is Death.POWER_LOST:
        rig.kill(*Part)
        rig.disk.lose_power()
        rig.start(*Part)
    elif part is Part.NODE:
        time.sleep(_FROZEN_SECONDS)
        rig.parts[part].process.send_signal(signal.SIGCONT)
    else:
        frozen = rig.parts[part]
        rig.start(part)
        _wait(settled(rig.node.ledger, studies), patience, "nobody took over from the frozen part")
        # What it still tries is too late, and must change nothing: neither when it succeeds nor when it fails.
        if part is Part.DELIVERY:
            rig.pacs.behave(Behaviour.CANNOT_UNDERSTAND)
        os.kill(frozen.process.pid, signal.SIGCONT)
        # Told to end, it ends after what it is at.
        frozen.process.terminate()
        frozen.process.wait(PATIENCE_SECONDS)
        rig.pacs.behave(Behaviour.WELL)
