"""The sweep: in every node, at short intervals, publish what is due and set right what died. Harmless when doubled."""

import threading

import structlog
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from node.bundles.handing_over import hand_over, has_orphans
from node.commitment.due import commitments_due, give_up_commitment
from node.delivery.breaker import due_deliveries
from node.delivery.withdrawal import give_up_late, withdraw_replaced
from node.ledger.clock import ClockWatch
from node.ledger.leases import NO_LIMIT, WORK_TABLES, WorkTable, claimable, give_up_abandoned
from node.ledger.ledger import Ledger
from node.queue import ANALYSIS, HINTS, TRAINING, Publisher, delivery_queue
from node.results.planning import is_complete
from node.storage.object_store import FolderObjectStore
from node.storage.retention import Retention
from schemas.change_tables import Withdrawal
from schemas.settings import Destination, DicomDestination, Settings
from schemas.tables import Delivery, Inference, Picture, Result, Study, TrainingRun

log = structlog.get_logger()

#: Longer than any pause within a transfer that is still alive.
_BROKEN_OFF_SECONDS = 600.0


class Sweep(threading.Thread):
    """Runs until `stop()`; a ledger or broker that is down is logged and asked again."""

    def __init__(self, ledger: Ledger, store: FolderObjectStore, publisher: Publisher, settings: Settings) -> None:
        super().__init__(name="sweep", daemon=True)
        self._ledger = ledger
        self._store = store
        self._publisher = publisher
        self._settings = settings
        self._clock = ClockWatch(ledger, settings)
        self._retention = Retention(ledger, store, settings.storage)
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self._settings.work.sweep_seconds):
            try:
                self.once()
            except Exception as error:  # noqa: BLE001 - without the sweep nothing that was lost comes back
                log.error("sweep failed, trying again", error=error)

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def once(self) -> dict[str, int]:
        """Publish hints for what is due; returns how many rows are due per queue."""
        self._clock.look()
        self._ledger.write(self._give_up_abandoned)
        with self._ledger.read() as session:
            orphans = has_orphans(session)
        if orphans:
            self._ledger.write(hand_over)
        self._retention.look()
        self._store.remove_abandoned(_BROKEN_OFF_SECONDS + self._settings.dicom.network_timeout_seconds)
        with self._ledger.read() as session:
            due = self._due(session)
        for queue, rows in due.items():
            if rows:
                for _ in range(min(rows, HINTS) - self._publisher.waiting(queue)):
                    self._publisher.hint(queue)
        return due

    def _attempts(self, table: WorkTable) -> int:
        work = self._settings.work
        if table is TrainingRun:
            return self._settings.training.attempts
        return NO_LIMIT if table is Delivery else work.attempts

    def _give_up_abandoned(self, session: Session) -> None:
        for table in (*WORK_TABLES, TrainingRun):
            given_up = give_up_abandoned(session, table, self._attempts(table))
            if given_up:
                log.error("given up after repeated deaths", table=table.__tablename__, rows=given_up)
        for destination in self._settings.destinations:
            self._end_deliveries(session, destination)

    def _end_deliveries(self, session: Session, destination: Destination) -> None:
        """What will not be sent, or not be asked for, any more."""
        withdraw_replaced(session, destination)
        given_up = give_up_late(session, destination)
        if given_up:
            log.error("deliveries given up, see chexnode deliveries list", destination=destination.name, rows=given_up)
        if isinstance(destination, DicomDestination) and (given_up := give_up_commitment(session, destination)):
            log.error("storage commitment given up", destination=destination.name, rows=given_up)

    def _due(self, session: Session) -> dict[str, int]:
        def rows(table: WorkTable, *where: ColumnElement[bool]) -> int:
            query = select(func.count()).select_from(table).where(claimable(table, self._attempts(table)), *where)
            return session.scalar(query) or 0

        complete = session.scalar(select(func.count()).select_from(Study).where(is_complete())) or 0
        analysis = sum(rows(table) for table in (Inference, Result, Withdrawal, Picture)) + complete
        due = {ANALYSIS: analysis, TRAINING: rows(TrainingRun)}
        for destination in self._settings.destinations:
            due[delivery_queue(destination.name)] = due_deliveries(session, destination.name)
            if isinstance(destination, DicomDestination):
                due[delivery_queue(destination.name)] += commitments_due(session, destination)
        return due
