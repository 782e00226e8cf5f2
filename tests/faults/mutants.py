"""Protections that can be taken out of the node, so that the matrix proves itself: without one a named trial turns red.

Taken out by the launcher inside the parts; nothing of the product knows of it.
"""

import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.faults.launcher import wrap
from tests.faults.states import Part


def _no_file_sync() -> None:
    _skip_sync(lambda mode: stat.S_ISREG(mode))


def _no_folder_sync() -> None:
    _skip_sync(lambda mode: stat.S_ISDIR(mode))


def _skip_sync(skipped: Callable[[int], bool]) -> None:
    original = os.fsync

    def fsync(fd: Any) -> None:
        if not skipped(os.fstat(fd).st_mode):
            original(fd)

    os.fsync = fsync


def _no_ledger_sync() -> None:
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "begin")
    def begin(connection: Any) -> None:
        connection.connection.driver_connection.execute("PRAGMA synchronous = OFF")


def _no_sweep() -> None:
    wrap("node.sweep:Sweep", "once", lambda original: lambda self: {})


def _no_fencing() -> None:
    """Whoever has once claimed a row changes it, whoever holds it now."""
    from sqlalchemy import update

    def unfenced(original: Callable[..., None]) -> Callable[..., None]:
        def change(session: Any, lease: Any, **values: Any) -> None:
            session.execute(update(lease.table).where(lease.table.id == lease.row_id).values(**values))

        return change

    wrap("node.ledger.leases", "_change", unfenced)


def _no_duplicate_check() -> None:
    wrap("node.intake.recording", "known_file", lambda original: lambda session, received: None)


def _early_answer() -> None:
    """Success is answered before anything is on the disk or in the ledger."""

    def early(original: Callable[..., Any]) -> Callable[..., Any]:
        def take(*arguments: Any) -> None:
            def later() -> None:
                time.sleep(0.5)
                original(*arguments)

            threading.Thread(target=later, daemon=True).start()

        return take

    wrap("node.intake.reception:ReceptionDesk", "take", early)


def _blind_delivery() -> None:
    """Whatever the destination answers is taken for success."""
    from schemas.errors import ChexnodeError

    class Blind:
        def __init__(self, sender: Any) -> None:
            self._sender = sender

        def send(self, parcel: Any) -> str:
            try:
                return str(self._sender.send(parcel))
            except ChexnodeError:
                return "sent"

    wrap("node.delivery.destination", "make_sender", lambda original: lambda destination: Blind(original(destination)))


@dataclass(frozen=True)
class Mutant:
    """A part without one of its protections."""

    name: str
    part: Part
    remove: Callable[[], None]


#: Which trial catches each of them: PROOFS in tests/faults/matrix.py.
MUTANTS = [
    Mutant("no sync of files", Part.NODE, _no_file_sync),
    Mutant("no sync of folders", Part.NODE, _no_folder_sync),
    Mutant("no sync of the ledger", Part.NODE, _no_ledger_sync),
    Mutant("no sweep", Part.NODE, _no_sweep),
    Mutant("no fencing", Part.DELIVERY, _no_fencing),
    Mutant("no duplicate check", Part.NODE, _no_duplicate_check),
    Mutant("answer before commit", Part.NODE, _early_answer),
    Mutant("any answer is success", Part.DELIVERY, _blind_delivery),
]

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
