"""The delivery worker: claims due deliveries per destination and hands the stored bytes over."""

import threading
from pathlib import Path

import click
import structlog
from celery import Celery
from sqlalchemy import exists, select
from sqlalchemy.orm import aliased

from node.database import upgrade
from node.delivery.destination import Sender, make_sender
from node.delivery.parcel import Parcel
from node.leases import Commit, Lease, claim, complete, perform
from node.ledger import Ledger, open_ledger
from node.logs import configure_logs
from node.object_store import FolderObjectStore
from node.presence import present
from node.queue import delivery_queue, make_celery, run_worker, stopping
from schemas.errors import SettingsError
from schemas.settings import Destination, ResultObject, Settings, load_settings
from schemas.tables import Delivery, Result, StoredObject, Study, WorkState

log = structlog.get_logger()

#: Deliveries to one destination at a time.
_SLOTS = 2
#: A report refers to its segmentations and is read beside its capture: it goes last.
RANK = {ResultObject.SEGMENTATION: 0, ResultObject.SECONDARY_CAPTURE: 1, ResultObject.REPORT: 2}


class Deliverer:
    """Delivers to one destination of the settings."""

    def __init__(self, ledger: Ledger, store: FolderObjectStore, settings: Settings, destination: Destination) -> None:
        self._ledger = ledger
        self._store = store
        self._work = settings.work
        self._name = destination.name
        self._destination = destination
        self._senders = threading.local()
        self._slots = threading.BoundedSemaphore(_SLOTS)

    def deliver_due(self) -> None:
        """Deliver until nothing is due. Returns at once when enough threads are at this destination already."""
        if not self._slots.acquire(blocking=False):
            return
        try:
            while not stopping.is_set() and self._deliver_one():
                pass
        finally:
            self._slots.release()

    def _deliver_one(self) -> bool:
        earlier = aliased(Delivery)
        blocked = exists().where(
            earlier.result_id == Delivery.result_id,
            earlier.destination == Delivery.destination,
            earlier.rank < Delivery.rank,
            earlier.state.in_([WorkState.DUE, WorkState.LEASED]),
        )
        attempts = self._work.delivery_attempts
        lease = claim(self._ledger, Delivery, self._work, attempts, Delivery.destination == self._name, ~blocked)
        if lease is None:
            return False
        perform(self._ledger, lease, self._work, attempts, lambda: self._hand_over(lease))
        return True

    def _hand_over(self, lease: Lease) -> Commit:
        answer = self._sender().send(self._parcel(lease.row_id))
        log.info("delivered", destination=self._name, delivery=lease.row_id, answer=answer)
        return lambda session: complete(session, lease, answer=answer)

    def _sender(self) -> Sender:
        # One per thread: HTTP sessions are not made to be shared.
        if not hasattr(self._senders, "sender"):
            self._senders.sender = make_sender(self._destination)
        sender: Sender = self._senders.sender
        return sender

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


def register_delivery(app: Celery, ledger: Ledger, settings: Settings) -> list[str]:
    """Register one task per destination; returns their queues."""
    store = FolderObjectStore(Path(settings.home) / "objects")
    queues = []
    for destination in settings.destinations:
        queue = delivery_queue(destination.name)
        app.task(Deliverer(ledger, store, settings, destination).deliver_due, name=queue)
        queues.append(queue)
    return queues


@click.command("delivery")
def delivery_command() -> None:
    """Run a delivery worker: hands result objects to the destinations of the settings."""
    settings = load_settings()
    configure_logs()
    if not settings.destinations:
        raise SettingsError("They name no destination: add a [[destinations]] table.")
    ledger = open_ledger(settings)
    upgrade(ledger)
    app = make_celery(settings)
    queues = register_delivery(app, ledger, settings)
    with present(ledger, "delivery"):
        run_worker(app, queues, threads=_SLOTS * len(queues), name="delivery")
