"""Fenced leases on rows of work: claim the most urgent due row, renew, commit or fail under the token.

A claim gives a token; every later change is conditional on it, so that a worker that slept through its lease can
change nothing. Times are the database's clock. No queue and no broker is relied on for any of it.
"""

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog
from sqlalchemy import ColumnElement, and_, or_, select, true, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from node.ledger import Ledger, now
from node.repeating import repeating
from schemas.errors import ChexnodeError, LeaseLostError
from schemas.settings import WorkSettings
from schemas.tables import (
    Delivery,
    Inference,
    Instance,
    Picture,
    Result,
    Series,
    Study,
    TrainingRun,
    WorkState,
)

log = structlog.get_logger()

#: Records the outcome of a job; calls complete() and so fails when the lease is lost.
Commit: TypeAlias = Callable[[Session], None]
WorkTable: TypeAlias = type[Inference] | type[Result] | type[Picture] | type[Delivery] | type[TrainingRun]
#: What becomes of studies.
WORK_TABLES: tuple[WorkTable, ...] = (Inference, Result, Picture, Delivery)


@dataclass(frozen=True)
class Lease:
    """The right to work on one row until it runs out or passes on."""

    table: WorkTable
    row_id: int
    token: str
    #: Number of this attempt, from 1.
    attempt: int


def claimable(table: WorkTable, attempts: int) -> ColumnElement[bool]:
    """Condition: due, or left behind by a holder that stopped renewing."""
    return and_(
        table.attempts < attempts,
        or_(
            and_(table.state == WorkState.DUE, table.due_at <= now()),
            and_(table.state == WorkState.LEASED, table.lease_expires_at < now()),
        ),
    )


def claim(
    ledger: Ledger, table: WorkTable, work: WorkSettings, attempts: int, *where: ColumnElement[bool]
) -> Lease | None:
    """Claim the most urgent claimable row of `table` that satisfies `where`; None when there is none."""
    token = secrets.token_hex(16)
    candidate = (
        select(table.id)
        .where(claimable(table, attempts), *where)
        .order_by(table.priority, table.due_at, table.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    statement = (
        update(table)
        .where(table.id == candidate)
        .values(
            state=WorkState.LEASED,
            attempts=table.attempts + 1,
            lease_token=token,
            lease_expires_at=now() + work.lease_seconds,
            started_at=now(),
        )
        .returning(table.id, table.attempts)
        .execution_options(synchronize_session=False)
    )

    def change(session: Session) -> Lease | None:
        row = session.execute(statement).one_or_none()
        return Lease(table, row[0], token, row[1]) if row else None

    return ledger.write(change)


def complete(session: Session, lease: Lease, **values: Any) -> None:
    """Mark the row done, with `values`, within the caller's transaction. Raises LeaseLostError."""
    _change(session, lease, state=WorkState.DONE, finished_at=now(), lease_token=None, error="", **values)


def report(session: Session, lease: Lease, **values: Any) -> None:
    """Note in the row how far its work is, within the caller's transaction. Raises LeaseLostError."""
    _change(session, lease, **values)


def fail(
    ledger: Ledger,
    lease: Lease,
    work: WorkSettings,
    attempts: int,
    reason: str,
    *,
    retryable: bool,
    counts: bool = True,
) -> bool:
    """Give the row back to be tried again after a wait, or give it up. True when it was given up.

    A failure that does not count (a full disk, an engine that does not start) is tried again for ever.
    """
    given_up = not retryable or (counts and lease.attempt >= attempts)
    wait = min(work.backoff_maximum_seconds, work.backoff_seconds * 2.0 ** min(lease.attempt - 1, 30))
    values: dict[str, Any] = {"error": _storable(reason), "lease_token": None, "finished_at": now()}
    if given_up:
        values["state"] = WorkState.FAILED
    else:
        values |= {"state": WorkState.DUE, "due_at": now() + wait * random.uniform(0.5, 1.5)}
        if not counts:
            values["attempts"] = lease.table.attempts - 1
    ledger.write(lambda session: _change(session, lease, **values))
    return given_up


def perform(ledger: Ledger, lease: Lease, work: WorkSettings, attempts: int, job: Callable[[], Commit]) -> None:
    """Run `job` while renewing the lease, then its commit in one transaction; record a failure in the row.

    Nothing that the job raises goes further: one bad row must not stop the others. A lease that passed on meanwhile
    throws the work away.
    """
    bound = log.bind(table=lease.table.__tablename__, row=lease.row_id, attempt=lease.attempt)
    try:
        with held(ledger, lease, work):
            commit = job()
        ledger.write(commit)
        return
    except LeaseLostError as error:
        bound.warning("lease lost", error=str(error))
        return
    except ChexnodeError as error:
        reason, retryable, counts = str(error), error.retryable, error.counts
    except SQLAlchemyError as error:
        # The row cannot be written now; the lease runs out and somebody claims it again.
        bound.error("ledger does not answer", error=str(error))
        return
    except Exception as error:  # noqa: BLE001 - the row's record is the place where it must end up
        bound.exception("unexpected error")
        reason, retryable, counts = f"{type(error).__name__}: {error}", True, True
    try:
        given_up = fail(ledger, lease, work, attempts, reason, retryable=retryable, counts=counts)
    except (LeaseLostError, SQLAlchemyError) as error:
        bound.warning("failure not recorded; the lease runs out", error=str(error), reason=reason)
        return
    bound.error("given up" if given_up else "failed, will be tried again", error=reason)


def give_up_abandoned(session: Session, table: WorkTable, attempts: int) -> int:
    """Give up rows whose every attempt ended without a word (the holder died each time). Returns how many."""
    statement = (
        update(table)
        .where(
            table.state == WorkState.LEASED,
            table.lease_expires_at < now(),
            table.attempts >= attempts,
        )
        .values(
            state=WorkState.FAILED,
            finished_at=now(),
            lease_token=None,
            error=f"Given up: {attempts} attempts ended with the death of the process that made them.",
        )
        .execution_options(synchronize_session=False)
    )
    return _rowcount(session, statement)


@contextmanager
def held(ledger: Ledger, lease: Lease, work: WorkSettings) -> Iterator[None]:
    """Renew the lease while the block runs.

    A lease that is lost meanwhile is not noticed here but by the conditional commit at the end, which is the only
    place where it matters.
    """

    def renew() -> None:
        try:
            ledger.write(lambda session: _change(session, lease, lease_expires_at=now() + work.lease_seconds))
        except LeaseLostError as error:
            raise StopIteration from error

    with repeating(f"lease-{lease.table.__tablename__}-{lease.row_id}", work.lease_seconds / 3, renew):
        yield


def _storable(reason: str) -> str:
    """The reason as any database takes it: no lone surrogates, no NUL, not endless."""
    return reason.encode("utf-8", "replace").decode().replace("\0", "")[:4000]


def make_due_again(session: Session, table: WorkTable) -> int:
    """Take up again what was given up, and at once what waits after a failure; returns how many rows.

    Not a result that has a later version: nobody is to get the older one after it. Studies whose images are taken up
    are planned again: they got a result without them, or none.
    """
    if table is Inference:
        given_up = select(Inference.pixel_digest).where(Inference.state == WorkState.FAILED)
        studies = select(Series.study_id).join(Instance).where(Instance.pixel_digest.in_(given_up))
        session.execute(
            update(Study)
            .where(Study.id.in_(studies), Study.result_due_at.is_(None))
            .values(result_due_at=now())
            .execution_options(synchronize_session=False)
        )
    later = aliased(Result)
    superseded = select(later.id).where(
        later.study_id == Result.study_id, later.bundle_name == Result.bundle_name, later.version > Result.version
    )
    statement = (
        update(table)
        .where(~superseded.exists() if table is Result else true())
        .where(or_(table.state == WorkState.FAILED, and_(table.state == WorkState.DUE, table.error != "")))
        .values(state=WorkState.DUE, attempts=0, due_at=now())
        .execution_options(synchronize_session=False)
    )
    return _rowcount(session, statement)


def _change(session: Session, lease: Lease, **values: Any) -> None:
    table = lease.table
    statement = (
        update(table)
        .where(table.id == lease.row_id, table.lease_token == lease.token, table.state == WorkState.LEASED)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if _rowcount(session, statement) != 1:
        raise LeaseLostError(f"{table.__tablename__} {lease.row_id}, attempt {lease.attempt}.")


def _rowcount(session: Session, statement: Any) -> int:
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    return result.rowcount
