"""Storage Commitment SCP: answers senders' requests with what the configured PACS has proven to hold.

A thread of the node, where the settings switch it on. The node is no archive: it commits to nothing by itself. The
report goes out on an association of its own (PS3.4 J.3.3), and again until the sender has taken it.
"""

import threading

import structlog
from pynetdicom import build_context, build_role
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from node.commitment.messages import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    FailureReason,
    NotCommitted,
    ReferencedInstance,
    Report,
    write_report,
)
from node.commitment.proof import ReceivedInstance, held_by
from node.ledger.leases import NO_LIMIT, Commit, Lease, claim, claimable, complete, perform
from node.ledger.ledger import Ledger, now
from node.network.association import NoAssociationError, Peer, TimeLimits, associated
from schemas.destination_tables import CommitmentInquiry, InquiredInstance
from schemas.errors import CommitmentError
from schemas.remote_ae import RemoteAe, parse_remote_ae
from schemas.settings import Settings
from schemas.tables import Instance, Series, Study, WorkState

log = structlog.get_logger()

#: A study's way from the modality to the PACS takes its time: only after this the sender hears that it is not there.
PATIENCE_SECONDS = 900.0
#: A sender that does not take its report for this long has forgotten its question.
_FORGOTTEN_SECONDS = 7 * 86400.0
_LOOK_SECONDS = 1.0
_LIMITS = TimeLimits(connect=10.0, associate=30.0, answer=30.0)
_SUCCESS = 0x0000


class CommitmentResponder(threading.Thread):
    """Runs until `stop()`.

    Parameters
    ----------
    patience_seconds
        How long the PACS is asked for what it does not hold yet.
    """

    def __init__(self, ledger: Ledger, settings: Settings, patience_seconds: float = PATIENCE_SECONDS) -> None:
        super().__init__(name="commitment", daemon=True)
        self._ledger = ledger
        self._work = settings.work
        self._calling = settings.dicom.ae_title
        self._patience_seconds = patience_seconds
        self._pacs = next(each for each in settings.destinations if each.name == settings.dicom.storage_commitment)
        requestors = map(parse_remote_ae, settings.dicom.storage_commitment_requestors)
        self._requestors: dict[str, RemoteAe] = {each.title: each for each in requestors}
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            try:
                self.respond()
            except Exception as error:  # noqa: BLE001 - a ledger that is down must not end it
                log.error("storage commitment not answered, trying again", error=type(error).__name__)

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def respond(self) -> None:
        """Answer what is due."""
        while not self._stopped.is_set() and self._anything_due():
            lease = claim(self._ledger, CommitmentInquiry, self._work, NO_LIMIT)
            if lease is not None:
                perform(self._ledger, lease, self._work, NO_LIMIT, lambda lease=lease: self._answer(lease))  # type: ignore[misc]

    def _anything_due(self) -> bool:
        with self._ledger.read() as session:
            forgotten = session.scalar(select(func.count()).where(_forgotten())) or 0
            due = session.scalar(select(func.count()).where(claimable(CommitmentInquiry, NO_LIMIT))) or 0
        if forgotten:
            self._ledger.write(_forget)
        return due > forgotten

    def _answer(self, lease: Lease) -> Commit:
        with self._ledger.read() as session:
            inquiry = session.get_one(CommitmentInquiry, lease.row_id)
            asked = [ReferencedInstance(each.sop_class_uid, each.sop_instance_uid) for each in inquiry.instances]
            received = _received(session, inquiry)
            waited = session.scalar(
                select(now() - CommitmentInquiry.created_at).where(CommitmentInquiry.id == inquiry.id)
            )
        patient = (waited or 0.0) < self._patience_seconds
        try:
            held = held_by(self._pacs, list(received.values()))
            unproven = FailureReason.NO_SUCH_INSTANCE
        except CommitmentError:
            if patient:
                raise
            held, unproven = set(), FailureReason.PROCESSING_FAILURE
        if patient and len(held) < len(received):
            raise CommitmentError(f"{self._pacs.name} does not hold all of it yet; it is asked again.")
        report = _report(inquiry.transaction_uid, asked, received, held, unproven)
        self._send(report, self._requestors.get(inquiry.calling_ae_title), inquiry.calling_ae_title)
        log.info(
            "storage commitment answered",
            calling=inquiry.calling_ae_title,
            committed=len(report.committed),
            not_committed=len(report.failed),
        )
        return lambda session: complete(session, lease)

    def _send(self, report: Report, requestor: RemoteAe | None, title: str) -> None:
        """N-EVENT-REPORT on an association in which we are the SCP (PS3.7 D.3.3.4). Raises CommitmentError."""
        if requestor is None:
            raise CommitmentError(f"There is no address of {title}: add it to dicom.storage_commitment_requestors.")
        peer = Peer(requestor.host, requestor.port, requestor.title, self._calling)
        roles = [build_role(SOP_CLASS_UID, scp_role=True)]
        try:
            with associated(peer, [build_context(SOP_CLASS_UID)], _LIMITS, roles=roles) as association:
                status, _ = association.send_n_event_report(
                    write_report(report), report.event_type, SOP_CLASS_UID, SOP_INSTANCE_UID
                )
        except NoAssociationError as error:
            raise CommitmentError(f"{error.detail} {error.to_do}") from error
        except (RuntimeError, ValueError) as error:
            raise CommitmentError(f"{peer}: the association ended: {error}.") from error
        if status.get("Status") != _SUCCESS:
            said = f"0x{status.Status:04X}" if "Status" in status else "nothing"
            raise CommitmentError(f"{peer} answered {said} to N-EVENT-REPORT.")


def _received(session: Session, inquiry: CommitmentInquiry) -> dict[str, ReceivedInstance]:
    """What we received of it, by SOP Instance UID."""
    rows = session.execute(
        select(Study.study_instance_uid, Series.series_instance_uid, Instance.sop_class_uid, Instance.sop_instance_uid)
        .join(Series, Series.study_id == Study.id)
        .join(Instance, Instance.series_id == Series.id)
        .join(InquiredInstance, InquiredInstance.sop_instance_uid == Instance.sop_instance_uid)
        .where(InquiredInstance.inquiry_id == inquiry.id)
    ).all()
    return {row.sop_instance_uid: ReceivedInstance(*row) for row in rows}


def _report(
    transaction_uid: str,
    asked: list[ReferencedInstance],
    received: dict[str, ReceivedInstance],
    held: set[str],
    unproven: FailureReason,
) -> Report:
    committed: list[ReferencedInstance] = []
    failed: list[NotCommitted] = []
    for each in asked:
        known = received.get(each.sop_instance_uid)
        if known is None:
            failed.append(NotCommitted(each, FailureReason.NO_SUCH_INSTANCE))
        elif known.sop_class_uid != each.sop_class_uid:
            failed.append(NotCommitted(each, FailureReason.CLASS_INSTANCE_CONFLICT))
        elif each.sop_instance_uid in held:
            committed.append(each)
        else:
            failed.append(NotCommitted(each, unproven))
    return Report(transaction_uid, committed, failed)


def _forgotten() -> ColumnElement[bool]:
    old = CommitmentInquiry.created_at < now() - _FORGOTTEN_SECONDS
    return (CommitmentInquiry.state == WorkState.DUE) & old


def _forget(session: Session) -> None:
    session.execute(
        update(CommitmentInquiry)
        .where(_forgotten())
        .values(state=WorkState.FAILED, finished_at=now())
        .execution_options(synchronize_session=False)
    )
