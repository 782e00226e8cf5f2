"""Presence: each running part of the node says in the ledger that it is there, so that others can miss it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from node.garbage import spare_what_is_loaded
from node.ledger.ledger import Ledger, now
from node.monitoring.metrics import local_figures
from node.repeating import repeating
from schemas.tables import Process

_BEAT_SECONDS = 5.0
#: Not seen for this long: dead.
_MISSING_SECONDS = 15.0
#: Rows of the dead are removed after this long; one that only slept shows up again before.
_FORGOTTEN_SECONDS = 3600.0


@contextmanager
def present(ledger: Ledger, role: str) -> Iterator[int]:
    """Be listed as `role` (node, worker, delivery) while the block runs; gives the key of its row."""
    row_id = ledger.write(lambda session: _arrive(session, role))
    spare_what_is_loaded()
    try:
        with repeating("presence", _BEAT_SECONDS, lambda: _beat(ledger, row_id)):
            yield row_id
    finally:
        ledger.write(lambda session: session.execute(delete(Process).where(Process.id == row_id)))


def present_processes(session: Session) -> list[Process]:
    """Every part of the node that was seen lately, on any host; of this host only what is running."""
    seen = select(Process).where(Process.seen_at > now() - _MISSING_SECONDS).order_by(Process.role, Process.id)
    here = socket.gethostname()
    return [each for each in session.scalars(seen) if each.host != here or Path(f"/proc/{each.process_id}").exists()]


def present_roles(ledger: Ledger) -> set[str]:
    """The roles that somebody fills at present."""
    with ledger.read() as session:
        return {each.role for each in present_processes(session)}


def _arrive(session: Session, role: str) -> int:
    session.execute(delete(Process).where(Process.seen_at <= now() - _FORGOTTEN_SECONDS))
    process = Process(
        role=role,
        host=socket.gethostname(),
        process_id=os.getpid(),
        started_at=now(),
        seen_at=now(),
        figures=local_figures(),
    )
    session.add(process)
    session.flush()
    return process.id


def _beat(ledger: Ledger, row_id: int) -> None:
    sign_of_life = update(Process).where(Process.id == row_id).values(seen_at=now(), figures=local_figures())
    ledger.write(lambda session: session.execute(sign_of_life))
