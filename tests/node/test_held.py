"""A ledger that is away (down, read-only, full) holds work and loses none, and costs no attempt of any row."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import psycopg2
import pytest
from sqlalchemy import event, make_url, select
from sqlalchemy.orm import Session

from node.ledger.leases import Attempt, Commit, Lease, claim, complete, perform
from node.ledger.ledger import Ledger, now
from schemas.errors import DeliveryError
from schemas.settings import WorkSettings
from schemas.tables import Inference, WorkState

WORK = WorkSettings(lease_seconds=0.6, attempts=2, backoff_seconds=0.01)

Outage: TypeAlias = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def outage(ledger: Ledger) -> Outage:
    """The ledger takes nothing while the block runs: PostgreSQL refuses connections, SQLite is read-only."""
    url = make_url(ledger.url)
    return (lambda: _refused(url)) if url.get_backend_name() == "postgresql" else (lambda: _read_only(ledger))


@contextmanager
def _refused(url: Any) -> Iterator[None]:
    admin = psycopg2.connect(host=url.host, port=url.port, user=url.username, dbname="postgres")
    admin.autocommit = True
    cursor = admin.cursor()
    cursor.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false")
    cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [url.database])
    try:
        yield
    finally:
        cursor.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true")
        admin.close()


@contextmanager
def _read_only(ledger: Ledger) -> Iterator[None]:
    state = "ON"

    # Never taken away again: other threads may be going through the listeners.
    @event.listens_for(ledger.engine, "checkout")
    def set_state(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA query_only = {state}")

    try:
        yield
    finally:
        state = "OFF"


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    row = Inference(pixel_digest="p", bundle_digest="b", file_sha256="f", due_at=now(), created_at=now())
    ledger.write(lambda session: session.add(row))
    lease = claim(ledger, Inference, WORK, WORK.attempts)
    assert lease
    return lease


def performed(ledger: Ledger, lease: Lease, outage: Outage, job: Callable[[], Commit]) -> Attempt:
    """The job with a ledger that goes away in the middle of it, for several times the length of a lease."""
    away, ended = threading.Event(), threading.Event()

    def out() -> None:
        with outage():
            away.set()
            ended.wait(3 * WORK.lease_seconds)

    def interrupted() -> Commit:
        thread.start()
        assert away.wait(30)
        return job()

    thread = threading.Thread(target=out)
    attempt = perform(ledger, lease, WORK, WORK.attempts, interrupted)
    ended.set()
    thread.join()
    return attempt


def only_row(ledger: Ledger) -> Inference:
    with ledger.read() as session:
        return session.scalars(select(Inference)).one()


def test_work_that_is_done_is_committed_when_the_ledger_is_back(ledger: Ledger, lease: Lease, outage: Outage) -> None:
    attempt = performed(ledger, lease, outage, lambda: lambda session: complete(session, lease, output_sha256="o"))
    row = only_row(ledger)
    assert (attempt, row.state, row.output_sha256, row.attempts) == (Attempt.DONE, WorkState.DONE, "o", 1)


def test_a_failure_is_recorded_when_the_ledger_is_back(ledger: Ledger, lease: Lease, outage: Outage) -> None:
    def job() -> Commit:
        raise DeliveryError("The PACS is away as well.")

    attempt = performed(ledger, lease, outage, job)
    row = only_row(ledger)
    assert (attempt, row.state, row.attempts) == (Attempt.RETRIED, WorkState.DUE, 1)
    assert "as well" in row.error


def test_work_that_found_the_ledger_away_has_not_failed(ledger: Ledger, lease: Lease, outage: Outage) -> None:
    def job() -> Commit:
        def touch(session: Session) -> None:
            session.get_one(Inference, lease.row_id).engine_name = "x"

        ledger.write(touch)
        raise AssertionError("the ledger is not away")

    attempt = performed(ledger, lease, outage, job)
    row = only_row(ledger)
    assert (attempt, row.state, row.attempts) == (Attempt.RETRIED, WorkState.DUE, 0)


def test_a_statement_that_is_wrong_is_not_tried_for_minutes(ledger: Ledger, lease: Lease) -> None:
    def commit(session: Session) -> None:
        session.connection().exec_driver_sql("INSERT INTO no_such_table VALUES (1)")

    attempt = perform(ledger, lease, WORK, WORK.attempts, lambda: commit)
    assert (attempt, only_row(ledger).attempts) == (Attempt.RETRIED, 1)


def test_a_log_on_a_full_disk_stops_nobody(tmp_path: Path) -> None:
    code = (
        "import sys, structlog\n"
        "from node.monitoring.logs import configure_logs\n"
        "configure_logs()\n"
        "log = structlog.get_logger()\n"
        "for number in range(3):\n"
        "    log.error('nothing can be written', number=number)\n"
        "print('went on')\n"
    )
    with Path("/dev/full").open("w") as full:
        run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert run.stdout == "went on\n"
