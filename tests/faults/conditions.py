"""What the world is like while a part of the node dies: what is sent, what around the node fails, and how it dies."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import text

from tests.faults.invariant import Expected, settled
from tests.faults.pacs import Behaviour
from tests.faults.rig import Rig
from tests.faults.sending import Sender
from tests.support.processes import wait_for


class Death(StrEnum):
    """What happens to the part that reaches the state."""

    KILLED = "killed"
    #: Everything on the host dies, and the disk keeps what was synced.
    POWER_LOST = "power lost"
    #: It sleeps for longer than its lease, another one takes over, and then it wakes up.
    FROZEN = "frozen"


@dataclass(frozen=True)
class Sending:
    """A study that is ready to be sent."""

    expected: Expected
    send: Callable[[], list[Sender]]


@dataclass(frozen=True)
class Around:
    """Something around the node that fails for a while."""

    #: Held open while it fails.
    failing: Callable[[Rig], Iterator[None]]
    #: Whether it still fails when the dead part is started again.
    outlasts: bool
    #: Whether the other destination has to go on meanwhile.
    other_destination_goes_on: bool = False


@dataclass(frozen=True)
class Condition:
    """One column of the matrix."""

    name: str
    prepare: Callable[[Rig], Sending]
    around: Around
    death: Death = Death.KILLED


def _one(rig: Rig) -> Sending:
    path, header = rig.radiograph()
    return Sending(Expected(header.StudyInstanceUID, [path]), lambda: [Sender(rig.node.port, [path])])


def _twice(rig: Rig) -> Sending:
    """Two senders at once, each twice."""
    path, header = rig.radiograph()
    return Sending(
        Expected(header.StudyInstanceUID, [path]), lambda: [Sender(rig.node.port, [path], times=2) for _ in range(2)]
    )


def _two_associations(rig: Rig) -> Sending:
    """Two images of one study, each over an association of its own, at once."""
    first, header = rig.radiograph()
    second, _ = rig.radiograph(header)
    expected = Expected(header.StudyInstanceUID, [first, second])
    return Sending(expected, lambda: [Sender(rig.node.port, [path]) for path in expected.files])


def _aborted(rig: Rig) -> Sending:
    path, header = rig.radiograph()
    return Sending(Expected(header.StudyInstanceUID, [path]), lambda: [Sender(rig.node.port, [path], abort=True)])


def _late(rig: Rig) -> Sending:
    """The second image of a study whose first result lies in the PACS already."""
    first, header = rig.radiograph()
    early = Expected(header.StudyInstanceUID, [first])
    assert Sender(rig.node.port, [first]).finish(60)
    wait_for("the first result", settled(rig.node.ledger, [early]), 120)
    second, _ = rig.radiograph(header)
    return Sending(Expected(header.StudyInstanceUID, [first, second]), lambda: [Sender(rig.node.port, [second])])


def _nothing(rig: Rig) -> Iterator[None]:
    yield


def _full_disk(rig: Rig) -> Iterator[None]:
    rig.fill()
    try:
        yield
    finally:
        rig.empty()


def _ledger(rig: Rig) -> Iterator[None]:
    """PostgreSQL is restarted; SQLite, which has no server, is locked by somebody else."""
    if rig.servers.postgres is not None:
        rig.servers.postgres.halt()
        try:
            yield
        finally:
            rig.servers.postgres.start()
            # Our own connections are broken too.
            rig.node.ledger.close()
    else:
        with rig.node.ledger.engine.connect() as connection:
            # Opens BEGIN IMMEDIATE: nobody else can write.
            connection.execute(text("SELECT 1"))
            yield


def _broker(rig: Rig) -> Iterator[None]:
    """Redis is restarted, and forgets everything; of the file broker every message is removed, twice."""
    if rig.servers.redis is not None:
        rig.servers.redis.stop()
        try:
            yield
        finally:
            rig.servers.redis.start()
    else:
        messages = rig.node.home / "broker" / "messages"
        _remove_files(messages)
        yield
        _remove_files(messages)


def _remove_files(folder: Path) -> None:
    for each in folder.glob("*"):
        each.unlink(missing_ok=True)


def _pacs(behaviour: Behaviour) -> Around:
    def failing(rig: Rig) -> Iterator[None]:
        rig.pacs.behave(behaviour)
        try:
            yield
        finally:
            rig.pacs.behave(Behaviour.WELL)

    return Around(failing, outlasts=True, other_destination_goes_on=True)


_QUIET = Around(_nothing, outlasts=True)

CONDITIONS = [
    Condition("nothing else", _one, _QUIET),
    Condition("same instance twice", _twice, _QUIET),
    Condition("two associations at once", _two_associations, _QUIET),
    Condition("association aborted", _aborted, _QUIET),
    Condition("late image", _late, _QUIET),
    Condition("disk full", _one, Around(_full_disk, outlasts=False)),
    Condition("ledger restarted or locked", _one, Around(_ledger, outlasts=False)),
    Condition("broker restarted and emptied", _one, Around(_broker, outlasts=True)),
    Condition("PACS down", _one, _pacs(Behaviour.DOWN)),
    Condition("PACS slow", _one, _pacs(Behaviour.SLOW)),
    Condition("PACS out of resources (0xA700)", _one, _pacs(Behaviour.OUT_OF_RESOURCES)),
    Condition("PACS stores and closes", _one, _pacs(Behaviour.CLOSING)),
    Condition("power lost", _one, _QUIET, Death.POWER_LOST),
    Condition("frozen beyond its lease", _one, _QUIET, Death.FROZEN),
]

BY_NAME = {condition.name: condition for condition in CONDITIONS}


@contextmanager
def failing(around: Around, rig: Rig) -> Iterator[Callable[[], None]]:
    """What is around fails until the function that this gives is called, or until the end of the block."""
    with ExitStack() as stack:
        stack.enter_context(contextmanager(around.failing)(rig))
        yield stack.close
