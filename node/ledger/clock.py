"""The database's clock may be set while work is due. Forward is harmless: leases pass on, and the fence holds.

Back leaves due times and leases that lie far ahead, and their rows would wait for as long as the clock was set back:
the sweep pulls them back here.
"""

from time import monotonic

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from node.ledger.leases import WORK_TABLES
from node.ledger.ledger import Ledger, now
from schemas.destination_tables import CommitmentInquiry, DestinationState
from schemas.settings import DicomDestination, Settings
from schemas.tables import Commitment, Delivery, Process, Study, TrainingRun, WorkState

log = structlog.get_logger()

#: A smaller step is a host's clock being trimmed, or a slow query.
_STEP_SECONDS = 5.0

#: What a request for storage commitment waits at most before it is repeated.
_LONGEST_COMMITMENT_SECONDS = 86400.0
_TABLES = (*WORK_TABLES, CommitmentInquiry, TrainingRun)


class ClockWatch:
    """Notices that the database's clock was set, by this process's steady one."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        #: The database's clock minus the steady one, at the last look.
        self._difference: float | None = None

    def look(self) -> int:
        """Pull back what lies ahead when the clock was set since the last look; returns how many rows.

        Also at the first look, since nobody may have looked when it happened.
        """
        with self._ledger.read() as session:
            difference = (session.scalar(select(now())) or 0.0) - monotonic()
        before, self._difference = self._difference, difference
        if before is not None and abs(difference - before) < _STEP_SECONDS:
            return 0
        if before is not None:
            log.warning("the database's clock was set", seconds=round(difference - before, 1))
        rows = self._ledger.write(lambda session: pull_back(session, self._settings))
        if rows:
            log.warning("due times and leases that lay ahead of the clock were pulled back", rows=rows)
        return rows


def pull_back(session: Session, settings: Settings) -> int:
    """Make due what is due later than any wait of ours explains; returns how many rows."""
    work = settings.work
    longest = _most(work.backoff_maximum_seconds)
    statements = [
        *(
            update(table).where(table.state == WorkState.DUE, table.due_at > now() + longest).values(due_at=now())
            for table in _TABLES
        ),
        *(
            update(table)
            .where(table.state == WorkState.LEASED, table.lease_expires_at > now() + work.lease_seconds + _STEP_SECONDS)
            .values(lease_expires_at=now() + work.lease_seconds)
            for table in _TABLES
        ),
        *(
            update(DestinationState)
            .where(
                DestinationState.destination == each.name, DestinationState.probe_at > now() + _most(each.probe_seconds)
            )
            .values(probe_at=now())
            for each in settings.destinations
        ),
        *(
            update(Delivery)
            .where(
                Delivery.destination == each.name,
                Delivery.commitment.in_([Commitment.WANTED, Commitment.REQUESTED]),
                Delivery.commitment_due_at > now() + _most(_LONGEST_COMMITMENT_SECONDS),
            )
            .values(commitment_due_at=now())
            for each in settings.destinations
            if isinstance(each, DicomDestination)
        ),
        update(Study)
        .where(Study.result_due_at > now() + settings.study.quiet_seconds + _STEP_SECONDS)
        .values(result_due_at=now()),
        # Its place in the worklist counts from when it came.
        update(Study)
        .where(Study.due_at > 0, Study.waiting_since > now() + _STEP_SECONDS)
        .values(due_at=Study.due_at - (Study.waiting_since - now()), waiting_since=now()),
        update(Process).where(Process.seen_at > now() + _STEP_SECONDS).values(seen_at=now()),
    ]
    return sum(
        session.execute(each.execution_options(synchronize_session=False)).rowcount  # type: ignore[attr-defined]
        for each in statements
    )


def _most(seconds: float) -> float:
    """The longest that a wait of so many seconds takes with its jitter."""
    return 1.5 * seconds + _STEP_SECONDS
