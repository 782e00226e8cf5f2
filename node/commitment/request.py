"""Storage commitment SCU: asks a destination to commit to the results that it has stored.

Called by the delivery worker. The answer comes on the same association within a moment, or later to our own DICOM port
(node/commitment/report.py), or not at all: then it is asked again.
"""

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import structlog
from pydicom.uid import generate_uid
from pynetdicom import build_context, evt
from pynetdicom.pdu import P_DATA_TF
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from node.commitment.due import due_for_commitment
from node.commitment.messages import (
    REQUEST,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    MalformedMessageError,
    ReferencedInstance,
    Request,
    read_report,
    write_request,
)
from node.commitment.report import record_report
from node.delivery.dicom import limits_of, peer_of
from node.ledger.ledger import Ledger, now
from node.network.association import NoAssociationError, associated
from node.queue import stopping
from schemas.destination_tables import CommitmentRequest
from schemas.errors import CommitmentError, SettingsError
from schemas.settings import DicomDestination, WorkSettings
from schemas.tables import Commitment, Delivery, StoredObject

log = structlog.get_logger()

#: Objects of one request at most.
_AT_A_TIME = 200
#: How long the association is kept open for the report. Those who send it later call us.
_REPORT_SECONDS = 3.0
_LOOK_SECONDS = 0.1
_DAY_SECONDS = 86400.0
_SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110


class CommitmentAsker:
    """Asks one destination; one request at a time and process."""

    def __init__(self, ledger: Ledger, work: WorkSettings, destination: DicomDestination) -> None:
        self._ledger = ledger
        self._work = work
        self._destination = destination
        self._busy = threading.Lock()

    def ask_due(self) -> None:
        """Ask until nothing is due. Returns at once when another thread is at it."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            while not stopping.is_set() and self._ask_once():
                pass
        finally:
            self._busy.release()

    def _ask_once(self) -> bool:
        request = self._ledger.write(self._prepare)
        if request is None:
            return False
        try:
            self._ask(request)
        except CommitmentError as error:
            log.warning("storage commitment not asked for", destination=self._destination.name, error=error)
            reason = str(error)
            self._ledger.write(lambda session: self._postpone(session, request, reason))
        return True

    def _prepare(self, session: Session) -> Request | None:
        """Note the request before it is made: its report may be here sooner than the answer to it."""
        due = (
            select(Delivery, StoredObject)
            .join(StoredObject, Delivery.object_id == StoredObject.id)
            .where(due_for_commitment(self._destination))
            .order_by(Delivery.commitment_due_at)
            .limit(_AT_A_TIME)
            .with_for_update(skip_locked=True, of=Delivery)
        )
        rows = session.execute(due).all()
        if not rows:
            return None
        uid = str(generate_uid(prefix=None))
        session.add(CommitmentRequest(transaction_uid=uid, destination=self._destination.name, requested_at=now()))
        instances = []
        for delivery, stored in rows:
            wait = min(
                _DAY_SECONDS, self._destination.commitment_repeat_seconds * 2.0 ** min(delivery.commitment_attempts, 30)
            )
            delivery.commitment = Commitment.REQUESTED
            delivery.commitment_transaction_uid = uid
            delivery.commitment_attempts += 1
            delivery.commitment_due_at = now() + wait
            assert stored.sop_class_uid  # only committed objects have deliveries
            instances.append(ReferencedInstance(stored.sop_class_uid, stored.sop_instance_uid))
        return Request(uid, instances)

    def _ask(self, request: Request) -> None:
        """N-ACTION, and a moment for the N-EVENT-REPORT. Raises CommitmentError when the request was not taken."""
        coming = _ComingReport(self._take_report)
        try:
            with associated(
                peer_of(self._destination),
                [build_context(SOP_CLASS_UID)],
                limits_of(self._destination),
                handlers=[(evt.EVT_N_EVENT_REPORT, coming.on_report), (evt.EVT_PDU_SENT, coming.on_pdu_sent)],
            ) as association:
                status, _ = association.send_n_action(write_request(request), REQUEST, SOP_CLASS_UID, SOP_INSTANCE_UID)
                if status.get("Status") != _SUCCESS:
                    said = f"0x{status.Status:04X}" if "Status" in status else "nothing"
                    raise CommitmentError(f"{peer_of(self._destination)} answered {said} to N-ACTION.")
                log.info(
                    "storage commitment asked for", destination=self._destination.name, objects=len(request.instances)
                )
                self._wait_for(coming, request)
        except (NoAssociationError, SettingsError) as error:
            raise CommitmentError(str(error)) from error
        except (RuntimeError, ValueError) as error:
            raise CommitmentError(f"{peer_of(self._destination)}: the association ended: {error}.") from error

    def _wait_for(self, coming: "_ComingReport", request: Request) -> None:
        """Keep the association open for a moment, unless the report comes to our own port meanwhile."""
        deadline = monotonic() + _REPORT_SECONDS
        while not coming.answered.wait(_LOOK_SECONDS):
            if coming.begun.is_set():
                # To release now would be to leave it without its response.
                coming.answered.wait(self._destination.timeout_seconds)
                return
            if monotonic() > deadline or self._is_reported(request):
                return

    def _is_reported(self, request: Request) -> bool:
        reported_at = select(CommitmentRequest.reported_at).where(
            CommitmentRequest.transaction_uid == request.transaction_uid
        )
        with self._ledger.read() as session:
            return session.scalar(reported_at) is not None

    def _take_report(self, event: Any) -> int:
        try:
            report = read_report(event.event_information)
            self._ledger.write(lambda session: record_report(session, report, self._destination.name, self._work))
        except MalformedMessageError as error:
            log.warning("storage commitment report not understood", error=error)
            return _PROCESSING_FAILURE
        except SQLAlchemyError as error:
            log.error("storage commitment report not recorded; it will be asked for again", error=error)
            return _PROCESSING_FAILURE
        return _SUCCESS

    def _postpone(self, session: Session, request: Request, reason: str) -> None:
        """The request was not taken: ask again sooner than when it was."""
        asked = session.scalars(
            select(Delivery).where(
                Delivery.commitment_transaction_uid == request.transaction_uid,
                Delivery.commitment == Commitment.REQUESTED,
            )
        )
        work = self._work
        for delivery in asked:
            wait = work.backoff_seconds * 2.0 ** min(delivery.commitment_attempts, 30)
            delivery.commitment, delivery.commitment_error = Commitment.WANTED, reason
            delivery.commitment_due_at = now() + min(wait, work.backoff_maximum_seconds)


class _ComingReport:
    """The N-EVENT-REPORT on the association of the request, until its response has gone out."""

    def __init__(self, take: Callable[[Any], int]) -> None:
        self._take = take
        self.begun, self.answered = threading.Event(), threading.Event()

    def on_report(self, event: Any) -> tuple[int, None]:
        """Of pynetdicom's EVT_N_EVENT_REPORT: the status of the response."""
        self.begun.set()
        return self._take(event), None

    def on_pdu_sent(self, event: Any) -> None:
        """Of pynetdicom's EVT_PDU_SENT: once the report is here the next P-DATA is its response."""
        if self.begun.is_set() and isinstance(event.pdu, P_DATA_TF):
            self.answered.set()
