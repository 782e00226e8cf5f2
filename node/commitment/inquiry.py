"""A storage commitment request of a sender, in the ledger: recorded here, answered by node/commitment/responder.py."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.commitment.messages import Request
from node.ledger.ledger import now
from schemas.destination_tables import CommitmentInquiry, InquiredInstance
from schemas.tables import WorkState


def record_inquiry(session: Session, request: Request, calling_ae_title: str) -> None:
    """Have it answered. One that comes again, since its response was lost, is answered again."""
    known = session.scalars(
        select(CommitmentInquiry).where(
            CommitmentInquiry.transaction_uid == request.transaction_uid,
            CommitmentInquiry.calling_ae_title == calling_ae_title,
        )
    ).one_or_none()
    if known is not None:
        if known.state in (WorkState.DONE, WorkState.FAILED):
            known.state, known.due_at, known.created_at = WorkState.DUE, now(), now()
        return
    session.add(
        CommitmentInquiry(
            transaction_uid=request.transaction_uid,
            calling_ae_title=calling_ae_title,
            due_at=now(),
            created_at=now(),
            instances=[
                InquiredInstance(sop_class_uid=each.sop_class_uid, sop_instance_uid=each.sop_instance_uid)
                for each in request.instances
            ],
        )
    )
