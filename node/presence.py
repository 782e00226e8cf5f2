"""Presence: each running part of the node says in the ledger that it is there, so that others can miss it."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from node.ledger import Ledger, now
from schemas.tables import Process

log = structlog.get_logger()

_BEAT_SECONDS = 5.0
#: Not seen for this long: dead.
_MISSING_SECONDS = 15.0


@contextmanager
def present(ledger: Ledger, role: str) -> Iterator[None]:
    """Be listed as `role` (node, worker, delivery) while the block runs."""
    row_id = ledger.write(lambda session: _arrive(session, role))
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_BEAT_SECONDS):
            try:
                ledger.write(lambda s: s.execute(update(Process).where(Process.id == row_id).values(seen_at=now())))
            except SQLAlchemyError as error:
                log.warning("presence not renewed", role=role, error=str(error))

    thread = threading.Thread(target=beat, name="presence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        ledger.write(lambda session: session.execute(delete(Process).where(Process.id == row_id)))


def present_processes(session: Session) -> list[Process]:
    """Every part of the node that was seen lately, on any host."""
    seen = select(Process).where(Process.seen_at > now() - _MISSING_SECONDS).order_by(Process.role, Process.id)
    return list(session.scalars(seen))


def _arrive(session: Session, role: str) -> int:
    session.execute(delete(Process).where(Process.seen_at <= now() - _MISSING_SECONDS))
    process = Process(role=role, host=socket.gethostname(), process_id=os.getpid(), started_at=now(), seen_at=now())
    session.add(process)
    session.flush()
    return process.id
