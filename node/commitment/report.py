"""What a storage commitment report changes in the ledger, whichever association it came on.

Called by the delivery worker (the association of the request) and by the receiver (one that the destination made).
"""

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.commitment.messages import Report
from node.ledger.ledger import now
from schemas.destination_tables import CommitmentRequest
from schemas.settings import WorkSettings
from schemas.tables import Commitment, Delivery, DeliveryState, StoredObject

log = structlog.get_logger()


def record_report(session: Session, report: Report, destination: str, work: WorkSettings) -> bool:
    """Record what the destination commits to, and send again what it does not hold; False when it was never asked.

    A commitment holds however late it comes; a failure counts only as the answer to the last request, since the object
    may have been sent again after it. A report that comes twice changes nothing.
    """
    request = session.scalars(
        select(CommitmentRequest).where(
            CommitmentRequest.transaction_uid == report.transaction_uid, CommitmentRequest.destination == destination
        )
    ).one_or_none()
    if request is None:
        return False
    request.reported_at = request.reported_at or now()
    committed = {each.sop_instance_uid: each.sop_class_uid for each in report.committed}
    failed = {each.instance.sop_instance_uid: each.words for each in report.failed}
    rows = session.execute(
        select(Delivery, StoredObject)
        .join(StoredObject, Delivery.object_id == StoredObject.id)
        .where(
            StoredObject.sop_instance_uid.in_([*committed, *failed]),
            Delivery.destination == destination,
            Delivery.state == DeliveryState.DONE,
            Delivery.commitment != Commitment.NOT_WANTED,
        )
        .with_for_update(of=Delivery)
    ).all()
    for delivery, stored in rows:
        if committed.get(stored.sop_instance_uid) == stored.sop_class_uid:
            delivery.commitment, delivery.commitment_error = Commitment.COMMITTED, ""
        elif (
            stored.sop_instance_uid in failed
            and delivery.commitment == Commitment.REQUESTED
            and delivery.commitment_transaction_uid == report.transaction_uid
        ):
            _send_again(delivery, failed[stored.sop_instance_uid], work)
    log.info(
        "storage commitment reported", destination=destination, committed=len(committed), not_committed=len(failed)
    )
    return True


def _send_again(delivery: Delivery, reason: str, work: WorkSettings) -> None:
    wait = min(work.backoff_maximum_seconds, work.backoff_seconds * 2.0 ** min(delivery.commitment_attempts, 30))
    delivery.state, delivery.due_at = DeliveryState.DUE, now() + wait
    delivery.error = delivery.commitment_error = f"The destination does not commit to it: {reason}."
    delivery.commitment = Commitment.NOT_WANTED
    # Its time begins at the first such report, and not anew at each.
    delivery.taken_up_at = delivery.taken_up_at or now()
