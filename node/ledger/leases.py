"""Fenced leases on rows of work: claim the most urgent due row, renew, commit or fail under the token.

A claim gives a token; every later change is conditional on it, so that a worker that slept through its lease can
change nothing. Times are the database's clock. No queue and no broker is relied on for any of it.
"""

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic, perf_counter, sleep
from typing import Any, TypeAlias, TypeVar

import structlog
from sqlalchemy import ColumnElement, and_, or_, select, true, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from node.ledger.ledger import Ledger, is_away, now
from node.monitoring.metrics import WORK_SECONDS
from node.repeating import repeating
from node.storage.removal import REMOVED
from schemas.change_tables import Withdrawal
from schemas.destination_tables import CommitmentInquiry
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

T = TypeVar("T")

#: How long work that is done waits for a ledger that is away, and how often it looks.
_PATIENCE_SECONDS = 600.0
_PAUSE_SECONDS = 0.5

#: Records the outcome of a job; calls complete() and so fails when the lease is lost.
Commit: TypeAlias = Callable[[Session], None]
WorkTable: TypeAlias = (
    type[Inference]
    | type[Result]
    | type[Withdrawal]
    | type[Picture]
    | type[Delivery]
    | type[TrainingRun]
    | type[CommitmentInquiry]
)
#: What becomes of studies.
WORK_TABLES: tuple[WorkTable, ...] = (Inference, Result, Withdrawal, Picture, Delivery)


class Attempt(StrEnum):
    """How an attempt at a row ended."""

    DONE = "done"
    #: To be tried again after a wait.
    RETRIED = "retried"
    GIVEN_UP = "given_up"
    #: Nothing was recorded: the lease had passed on, or the ledger did not answer.
    LOST = "lost"


#: Attempts at rows that are given up by the time that they took, and not by number.
NO_LIMIT = 2**31 - 1


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
    return ledger.write(lambda session: claim_in(session, table, work, attempts, *where))


def claim_in(
    session: Session, table: WorkTable, work: WorkSettings, attempts: int, *where: ColumnElement[bool]
) -> Lease | None:
    """`claim` within the caller's transaction."""
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
    row = session.execute(statement).one_or_none()
    return Lease(table, row[0], token, row[1]) if row else None


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


def perform(ledger: Ledger, lease: Lease, work: WorkSettings, attempts: int, job: Callable[[], Commit]) -> Attempt:
    """Run `job` while renewing the lease, then its commit in one transaction; record a failure in the row.

    Nothing that the job raises goes further: one bad row must not stop the others. A lease that passed on meanwhile
    throws the work away.
    """
    started = perf_counter()
    attempt = _perform(ledger, lease, work, attempts, job)
    WORK_SECONDS.labels(lease.table.__tablename__, attempt).observe(perf_counter() - started)
    return attempt


def _perform(ledger: Ledger, lease: Lease, work: WorkSettings, attempts: int, job: Callable[[], Commit]) -> Attempt:
    bound = log.bind(table=lease.table.__tablename__, row=lease.row_id, attempt=lease.attempt)
    failure: Exception
    try:
        with held(ledger, lease, work):
            commit = job()
            _patiently(lambda: ledger.write(commit))
        return Attempt.DONE
    except LeaseLostError as error:
        bound.warning("lease lost", error=error)
        return Attempt.LOST
    except ChexnodeError as error:
        failure, reason, retryable, counts = error, str(error), error.retryable, error.counts
    except SQLAlchemyError as error:
        bound.error("ledger does not answer", error=error)
        failure, reason, retryable, counts = (
            error,
            f"The ledger did not answer: {type(error).__name__}.",
            True,
            not is_away(error),
        )
    except Exception as error:  # noqa: BLE001 - the row's record is the place where it must end up
        bound.exception("unexpected error")
        failure, reason, retryable, counts = error, f"{type(error).__name__}: {error}", True, True
    try:
        given_up = _patiently(lambda: fail(ledger, lease, work, attempts, reason, retryable=retryable, counts=counts))
    except (LeaseLostError, SQLAlchemyError) as error:
        bound.warning("failure not recorded; the lease runs out", error=error, reason=failure)
        return Attempt.LOST
    bound.error("given up" if given_up else "failed, will be tried again", error=failure)
    return Attempt.GIVEN_UP if given_up else Attempt.RETRIED


def _patiently(action: Callable[[], T]) -> T:
    """Do it, again and again while the ledger is away, for as long as a restart or a full disk may take.

    While nobody can write, nobody can claim either: a row keeps its token, and the work that is done is not lost.
    """
    until = monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return action()
        except SQLAlchemyError as error:
            if not is_away(error) or monotonic() > until:
                raise
            log.warning("ledger does not answer, trying again", error=error)
            sleep(_PAUSE_SECONDS)


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


def make_due_again(session: Session, table: WorkTable, *where: ColumnElement[bool]) -> int:
    """Take up again what was given up, and at once what waits after a failure; returns how many rows.

    `where` narrows it down to some rows.

    Not a result that has a later version: nobody is to get the older one after it. Studies whose images are taken up
    are planned again: they got a result without them, or none.
    """
    if table is Inference:
        # What retention has removed is computed again when its file comes again, and not before.
        where = (*where, Inference.error != REMOVED)
        given_up = select(Inference.pixel_digest).where(Inference.state == WorkState.FAILED, *where)
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
        .where(~superseded.exists() if table is Result else true(), *where)
        .where(or_(table.state == WorkState.FAILED, and_(table.state == WorkState.DUE, table.error != "")))
        .values(state=WorkState.DUE, attempts=0, due_at=now(), **({"taken_up_at": now()} if table is Delivery else {}))
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
