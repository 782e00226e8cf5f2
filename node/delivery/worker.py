"""The delivery worker: claims due deliveries per destination and hands the stored bytes over."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click
import structlog
from celery import Celery
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.commitment.request import CommitmentAsker
from node.delivery.breaker import claim_delivery, note_answer, note_failure
from node.delivery.destination import Sender, make_sender
from node.delivery.parcel import Parcel
from node.delivery.withdrawal import replaced, waits_for_companions
from node.ledger.database import ready_ledger
from node.ledger.leases import NO_LIMIT, Commit, Lease, complete, perform
from node.ledger.ledger import Ledger, now
from node.monitoring.logs import configure_logs_of
from node.monitoring.metrics import DELIVERIES, watch_disk
from node.monitoring.presence import present
from node.queue import delivery_queue, make_celery, run_worker, stopping
from node.storage.object_store import ObjectStore
from node.storage.stores import open_store
from schemas.errors import DeliveryError, DeliveryRefusedError, SettingsError
from schemas.settings import Destination, DicomDestination, ResultObject, Settings, load_settings
from schemas.tables import Commitment, Delivery, Result, StoredObject, Study

log = structlog.get_logger()

#: A report refers to its segmentations and is read beside its capture: it goes last, but for a note that rejects them.
RANK = {
    ResultObject.SEGMENTATION: 0,
    ResultObject.SECONDARY_CAPTURE: 1,
    ResultObject.REPORT: 2,
    ResultObject.REJECTION_NOTE: 3,
}

#: After which storage commitment is asked for: the objects of a study go into one request.
_COMPANY_SECONDS = 1.0


class Deliverer:
    """Delivers to one destination of the settings."""

    def __init__(self, ledger: Ledger, store: ObjectStore, settings: Settings, destination: Destination) -> None:
        self._ledger = ledger
        self._store = store
        self._work = settings.work
        self._name = destination.name
        self._destination = destination
        self._slots = threading.BoundedSemaphore(destination.concurrent_sends)
        self._asker: CommitmentAsker | None = None
        if isinstance(destination, DicomDestination) and destination.commitment:
            self._asker = CommitmentAsker(ledger, settings.work, destination)

    @property
    def threads(self) -> int:
        """How many threads can be at this destination at a time."""
        return self._destination.concurrent_sends + (self._asker is not None)

    def deliver_due(self) -> None:
        """Deliver until nothing is due. Returns at once when enough threads are at this destination already."""
        if self._slots.acquire(blocking=False):
            try:
                with self._sending() as sender:
                    while not stopping.is_set() and self._deliver_one(sender):
                        pass
            finally:
                self._slots.release()
        if self._asker is not None:
            self._asker.ask_due()

    @contextmanager
    def _sending(self) -> Iterator[Sender]:
        """A sender of this thread's own: neither HTTP sessions nor associations are made to be shared."""
        sender = make_sender(self._destination)
        try:
            yield sender
        finally:
            sender.close()

    def _deliver_one(self, sender: Sender) -> bool:
        lease = self._ledger.write(
            lambda session: claim_delivery(session, self._destination, self._work, ~waits_for_companions(), ~replaced())
        )
        if lease is None:
            return False
        attempt = perform(self._ledger, lease, self._work, NO_LIMIT, lambda: self._hand_over(sender, lease))
        DELIVERIES.labels(self._name, attempt).inc()
        return True

    def _hand_over(self, sender: Sender, lease: Lease) -> Commit:
        parcel = self._parcel(lease.row_id)
        try:
            answer = sender.send(parcel)
        except DeliveryRefusedError:
            self._ledger.write(lambda session: note_answer(session, self._name))
            raise
        except DeliveryError as error:
            failure = error
            self._ledger.write(lambda session: note_failure(session, self._destination, lease.row_id, failure))
            raise
        log.info("delivered", destination=self._name, delivery=lease.row_id)
        return lambda session: self._record(session, lease, answer)

    def _record(self, session: Session, lease: Lease, answer: str) -> None:
        # In the order in which a claim locks them: who locks in another order waits for each other for ever.
        note_answer(session, self._name)
        complete(session, lease, answer=answer)
        if self._asker is not None:
            delivery = session.get_one(Delivery, lease.row_id)
            delivery.commitment, delivery.commitment_due_at = Commitment.WANTED, now() + _COMPANY_SECONDS

    def _parcel(self, delivery_id: int) -> Parcel:
        with self._ledger.read() as session:
            stored, result, study = session.execute(
                select(StoredObject, Result, Study)
                .join(Delivery, Delivery.object_id == StoredObject.id)
                .join(Result, Result.id == StoredObject.result_id)
                .join(Study, Study.id == Result.study_id)
                .where(Delivery.id == delivery_id)
            ).one()
        assert stored.sha256 and stored.sop_class_uid  # only committed objects have deliveries
        return Parcel(
            content=self._store.get(stored.sha256),
            sop_class_uid=stored.sop_class_uid,
            sop_instance_uid=stored.sop_instance_uid,
            series_instance_uid=stored.series_instance_uid,
            study_instance_uid=study.study_instance_uid,
            # A late delivery of an older version must not bring its urgency back.
            urgency=study.urgency if stored.kind == ResultObject.REPORT and result.current else None,
        )


def register_delivery(app: Celery, ledger: Ledger, settings: Settings) -> dict[str, int]:
    """Register one task per destination; returns their queues, and how many threads each can use at a time.

    With a thread for every slot, no destination waits for another one's.
    """
    store = open_store(settings)
    queues = {}
    for destination in settings.destinations:
        deliverer = Deliverer(ledger, store, settings, destination)
        queue = delivery_queue(destination.name)
        app.task(deliverer.deliver_due, name=queue)
        queues[queue] = deliverer.threads
    return queues


@click.command("delivery")
def delivery_command() -> None:
    """Run a delivery worker: hands result objects to the destinations of the settings."""
    settings = load_settings()
    configure_logs_of(settings)
    watch_disk(settings.home)
    if not settings.destinations:
        raise SettingsError("They name no destination: add a [[destinations]] table.")
    ledger = ready_ledger(settings)
    app = make_celery(settings)
    queues = register_delivery(app, ledger, settings)
    with present(ledger, "delivery"):
        run_worker(app, list(queues), threads=sum(queues.values()), name="delivery")
