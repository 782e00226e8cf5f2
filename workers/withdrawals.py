"""Withdrawn results: whoever was sent their objects is sent a rejection note for them. A task of inference workers."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from io import BytesIO

import structlog
from pydicom import dcmread
from pydicom.uid import KeyObjectSelectionDocumentStorage, generate_uid
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from node.delivery.worker import RANK
from node.ledger.leases import Commit, Lease, claim, complete, perform
from node.ledger.ledger import Ledger, now
from node.queue import Publisher, delivery_queue
from node.storage.object_store import ObjectStore
from schemas.change_tables import Withdrawal
from schemas.codes import RejectionReason
from schemas.settings import ResultObject, Settings
from schemas.tables import Delivery, DeliveryState, StoredObject, Study
from workers.results.equipment import part10_bytes
from workers.results.rejection_note import ObjectIdentity, build_rejection_note

log = structlog.get_logger()


@dataclass(frozen=True)
class _Note:
    """A note for one destination: what it got may be less than what others got."""

    destination: str
    sop_instance_uid: str
    series_instance_uid: str
    sha256: str
    size_bytes: int


class Withdrawals:
    """Builds the rejection notes of withdrawn results and makes their deliveries due."""

    def __init__(self, settings: Settings, ledger: Ledger, store: ObjectStore, publisher: Publisher) -> None:
        self._work = settings.work
        self._ledger = ledger
        self._store = store
        self._publisher = publisher
        self._destinations = [
            each.name for each in settings.destinations if ResultObject.REJECTION_NOTE in each.objects
        ]

    def send_one(self) -> bool:
        """Build the notes of one withdrawn result; whether there was one."""
        lease = claim(self._ledger, Withdrawal, self._work, self._work.attempts)
        if lease is None:
            return False
        perform(self._ledger, lease, self._work, self._work.attempts, partial(self._build, lease))
        for destination in self._destinations:
            self._publisher.hint(delivery_queue(destination))
        return True

    def _build(self, lease: Lease) -> Commit:
        with self._ledger.read() as session:
            withdrawal = session.get_one(Withdrawal, lease.row_id)
            reason, at = RejectionReason(withdrawal.reason), withdrawal.created_at
            objects = {each.id: each for each in withdrawal.result.objects if each.sha256}
            sent = session.execute(
                select(Delivery.destination, Delivery.object_id).where(
                    Delivery.result_id == withdrawal.result_id,
                    Delivery.state.not_in([DeliveryState.WITHDRAWN, DeliveryState.FAILED]),
                )
            ).all()
        taken: dict[str, list[ObjectIdentity]] = defaultdict(list)
        for destination, object_id in sent:
            if destination in self._destinations and objects[object_id].kind != ResultObject.REJECTION_NOTE:
                taken[destination].append(_identity(objects[object_id]))
        report = next(each for each in objects.values() if each.kind == ResultObject.REPORT)
        assert report.sha256
        header = dcmread(BytesIO(self._store.get(report.sha256)))
        content_time = datetime.fromtimestamp(at, UTC).replace(microsecond=0)
        notes = []
        for destination, identities in sorted(taken.items()):
            uid, series = generate_uid(prefix=None), generate_uid(prefix=None)
            content = part10_bytes(build_rejection_note(header, identities, reason, uid, series, content_time))
            notes.append(_Note(destination, uid, series, self._store.put(content), len(content)))
        return lambda session: self._commit(session, lease, notes)

    def _commit(self, session: Session, lease: Lease, notes: list[_Note]) -> None:
        complete(session, lease)
        withdrawal = session.get_one(Withdrawal, lease.row_id)
        for note in notes:
            stored = StoredObject(
                result_id=withdrawal.result_id,
                kind=ResultObject.REJECTION_NOTE,
                sop_instance_uid=note.sop_instance_uid,
                series_instance_uid=note.series_instance_uid,
                sop_class_uid=KeyObjectSelectionDocumentStorage,
                sha256=note.sha256,
                size_bytes=note.size_bytes,
            )
            session.add(stored)
            session.flush()
            session.add(
                Delivery(
                    object_id=stored.id,
                    result_id=withdrawal.result_id,
                    destination=note.destination,
                    rank=RANK[ResultObject.REJECTION_NOTE],
                    priority=withdrawal.priority,
                    due_at=now(),
                    created_at=now(),
                )
            )
        study = withdrawal.result.study
        session.execute(update(Study).where(Study.id == study.id).values(changed_at=now()))
        log.info("result withdrawn", study=study.study_instance_uid, reason=withdrawal.reason, notes=len(notes))


def _identity(stored: StoredObject) -> ObjectIdentity:
    assert stored.sop_class_uid
    return ObjectIdentity(stored.sop_class_uid, stored.sop_instance_uid, stored.series_instance_uid)
