"""Fenced leases: one holder at a time, a sleeper changes nothing, the most urgent first, failures end."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from node.ledger.leases import Lease, claim, complete, fail, give_up_abandoned, held, make_due_again, perform
from node.ledger.ledger import Ledger, now
from schemas.errors import DeliveryError, LeaseLostError, OutOfResourcesError, PixelDataError
from schemas.settings import WorkSettings
from schemas.tables import Inference, WorkState
from tests.support.processes import wait_for

WORK = WorkSettings(lease_seconds=0.3, attempts=3, backoff_seconds=0.05)
HURRY = WorkSettings(lease_seconds=30, attempts=3, backoff_seconds=0.001, backoff_maximum_seconds=0.01)
LONG = WorkSettings(lease_seconds=30, attempts=3)


def add(ledger: Ledger, name: str, priority: int = 100, due_in: float = 0.0) -> int:
    def change(session: Session) -> int:
        row = Inference(
            pixel_digest=name,
            bundle_digest="b",
            file_sha256="f",
            priority=priority,
            due_at=now() + due_in,
            created_at=now(),
        )
        session.add(row)
        session.flush()
        return row.id

    return ledger.write(change)


def row(ledger: Ledger, row_id: int) -> Inference:
    with ledger.read() as session:
        return session.get_one(Inference, row_id)


def take(ledger: Ledger, work: WorkSettings = LONG) -> Lease:
    lease = claim(ledger, Inference, work, work.attempts)
    assert lease
    return lease


def test_the_most_urgent_due_row_is_claimed_first(ledger: Ledger) -> None:
    add(ledger, "routine")
    urgent = add(ledger, "urgent", priority=1)
    add(ledger, "future", priority=0, due_in=60)
    assert take(ledger).row_id == urgent


def test_a_row_has_one_holder_among_many_claimants(ledger: Ledger) -> None:
    rows = {add(ledger, str(number)) for number in range(20)}
    with ThreadPoolExecutor(8) as pool:
        leases = [lease for lease in pool.map(lambda _: claim(ledger, Inference, LONG, 3), range(30)) if lease]
    assert sorted(lease.row_id for lease in leases) == sorted(rows)


def test_a_lease_that_runs_out_passes_on_and_the_sleeper_changes_nothing(ledger: Ledger) -> None:
    row_id = add(ledger, "a")
    sleeper = take(ledger, WORK)
    assert claim(ledger, Inference, WORK, WORK.attempts) is None
    successor = wait_for("the lease runs out", lambda: claim(ledger, Inference, WORK, WORK.attempts), 5)
    assert successor.row_id == row_id
    with pytest.raises(LeaseLostError):
        ledger.write(lambda session: complete(session, sleeper, output_sha256="late"))
    ledger.write(lambda session: complete(session, successor, output_sha256="good"))
    assert (row(ledger, row_id).state, row(ledger, row_id).output_sha256) == (WorkState.DONE, "good")


def test_a_held_lease_is_renewed_for_as_long_as_the_work_takes(ledger: Ledger) -> None:
    add(ledger, "a")
    lease = take(ledger, WORK)
    with held(ledger, lease, WORK):
        assert not threading.Event().wait(4 * WORK.lease_seconds)
        assert claim(ledger, Inference, WORK, WORK.attempts) is None
    ledger.write(lambda session: complete(session, lease))


def test_a_failure_is_tried_again_after_a_wait_and_given_up_with_its_reason(ledger: Ledger) -> None:
    row_id = add(ledger, "a")
    for attempt in range(1, WORK.attempts + 1):
        lease = wait_for("the row is due again", lambda: claim(ledger, Inference, WORK, WORK.attempts), 5)
        assert lease.attempt == attempt
        given_up = fail(ledger, lease, WORK, WORK.attempts, "peer is down", retryable=True)
        assert given_up == (attempt == WORK.attempts)
        waiting = row(ledger, row_id)
        assert waiting.state == (WorkState.FAILED if given_up else WorkState.DUE)
        assert given_up or waiting.due_at > (waiting.finished_at or 0)
    assert row(ledger, row_id).error == "peer is down"


def test_what_no_retry_can_help_is_given_up_at_once(ledger: Ledger) -> None:
    row_id = add(ledger, "a")
    assert fail(ledger, take(ledger), LONG, LONG.attempts, "broken pixels", retryable=False)
    assert row(ledger, row_id).state == WorkState.FAILED


def test_rows_whose_every_holder_died_are_given_up(ledger: Ledger) -> None:
    row_id = add(ledger, "a")
    for _ in range(WORK.attempts):
        wait_for("the row can be claimed", lambda: claim(ledger, Inference, WORK, WORK.attempts), 5)
    wait_for("the sweep gives it up", lambda: ledger.write(lambda s: give_up_abandoned(s, Inference, WORK.attempts)), 5)
    assert row(ledger, row_id).state == WorkState.FAILED
    assert "death" in row(ledger, row_id).error


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DeliveryError("down"), WorkState.DUE),
        (PixelDataError("torn"), WorkState.FAILED),
        (ZeroDivisionError("bug"), WorkState.DUE),
    ],
)
def test_perform_records_whatever_a_job_raises(ledger: Ledger, error: Exception, state: WorkState) -> None:
    row_id = add(ledger, "a")

    def job() -> Callable[[Session], None]:
        raise error

    perform(ledger, take(ledger), LONG, LONG.attempts, job)
    assert row(ledger, row_id).state == state
    assert str(error) in row(ledger, row_id).error


def test_perform_throws_work_away_when_the_lease_is_lost(ledger: Ledger) -> None:
    row_id = add(ledger, "a")
    lease = take(ledger)
    ledger.write(lambda session: complete(session, lease, output_sha256="first"))
    perform(ledger, lease, LONG, 3, lambda: lambda session: complete(session, lease, output_sha256="second"))
    assert row(ledger, row_id).output_sha256 == "first"


def test_a_fault_of_the_surroundings_uses_up_no_attempt(ledger: Ledger) -> None:
    row_id = add(ledger, "a")

    def job() -> Callable[[Session], None]:
        raise OutOfResourcesError("disk full")

    for _ in range(3 * WORK.attempts):
        lease = wait_for("the row is due again", lambda: claim(ledger, Inference, HURRY, HURRY.attempts), 5)
        assert lease
        perform(ledger, lease, HURRY, HURRY.attempts, job)
    assert (row(ledger, row_id).state, row(ledger, row_id).attempts) == (WorkState.DUE, 0)


def test_what_was_given_up_can_be_taken_up_again(ledger: Ledger) -> None:
    row_id = add(ledger, "a")
    fail(ledger, take(ledger), LONG, LONG.attempts, "broken pixels", retryable=False)
    assert ledger.write(lambda session: make_due_again(session, Inference)) == 1
    assert take(ledger).row_id == row_id


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_whatever_a_job_raises_is_recorded_and_logged_without_a_patients_name(tmp_path: Path, log_format: str) -> None:
    """In a process of its own, with the logging that every long-running command sets up."""
    code = f"""
import os
os.environ["CHEXNODE_LOG_FORMAT"] = {log_format!r}
from node.ledger.database import upgrade
from node.ledger.leases import perform
from node.ledger.ledger import Ledger
from node.monitoring.logs import configure_logs
from tests.node.test_leases import LONG, add, row, take
configure_logs()
ledger = Ledger("sqlite:///{tmp_path}/ledger.db")
upgrade(ledger)
row_id = add(ledger, "a")
def job():
    patient_name = "SECRET^NAME"
    raise ZeroDivisionError("odd \\udce4 and \\0 characters")
perform(ledger, take(ledger), LONG, 3, job)
print(row(ledger, row_id).state, ascii(row(ledger, row_id).error))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("due") and "odd ? and  characters" in run.stdout
    assert "ZeroDivisionError" in run.stderr
    assert "SECRET" not in run.stderr
