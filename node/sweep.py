"""The sweep: in every node, at short intervals, publish what is due and set right what died. Harmless when doubled."""

import threading

import structlog
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from node.leases import WorkTable, claimable, give_up_abandoned
from node.ledger import Ledger, now
from node.queue import INFERENCE, RESULTS, Publisher, delivery_queue
from schemas.settings import Settings
from schemas.tables import Delivery, Inference, Result, Study

log = structlog.get_logger()

#: Messages that the sweep keeps waiting in a queue at most: each wakes a worker, which then works until nothing is due.
_HINTS = 4


class Sweep(threading.Thread):
    """Runs until `stop()`; a ledger or broker that is down is logged and asked again."""

    def __init__(self, ledger: Ledger, publisher: Publisher, settings: Settings) -> None:
        super().__init__(name="sweep", daemon=True)
        self._ledger = ledger
        self._publisher = publisher
        self._settings = settings
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self._settings.work.sweep_seconds):
            try:
                self.once()
            except SQLAlchemyError as error:
                log.error("sweep: the ledger does not answer, trying again", error=str(error))

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def once(self) -> dict[str, int]:
        """Publish hints for what is due; returns how many rows are due per queue."""
        self._ledger.write(self._give_up_abandoned)
        with self._ledger.read() as session:
            due = self._due(session)
        for queue, rows in due.items():
            if rows:
                for _ in range(min(rows, _HINTS) - self._publisher.waiting(queue)):
                    self._publisher.hint(queue)
        return due

    def _attempts(self, table: WorkTable) -> int:
        work = self._settings.work
        return work.delivery_attempts if table is Delivery else work.attempts

    def _give_up_abandoned(self, session: Session) -> None:
        for table in (Inference, Result, Delivery):
            given_up = give_up_abandoned(session, table, self._attempts(table))
            if given_up:
                log.error("given up after repeated deaths", table=table.__tablename__, rows=given_up)

    def _due(self, session: Session) -> dict[str, int]:
        def rows(table: WorkTable, *where: ColumnElement[bool]) -> int:
            query = select(func.count()).select_from(table).where(claimable(table, self._attempts(table)), *where)
            return session.scalar(query) or 0

        complete = session.scalar(select(func.count()).select_from(Study).where(Study.result_due_at <= now())) or 0
        due = {INFERENCE: rows(Inference), RESULTS: rows(Result) + complete}
        for destination in self._settings.destinations:
            due[delivery_queue(destination.name)] = rows(Delivery, Delivery.destination == destination.name)
        return due
