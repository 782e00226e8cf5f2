"""Withdrawal of results that were sent out: their destinations are told not to use them any more.

Part of the planning of results, which finds that nothing can be said of a study any more. The rejection note itself is
built by an inference worker (workers/withdrawals.py).
"""

from sqlalchemy import ColumnElement, and_, exists, select, update
from sqlalchemy.orm import Session

from node.bundles.inferences import PRIORITY
from node.intake.rejection import most_serious
from node.ledger.ledger import now
from schemas.change_tables import Rejection, Withdrawal
from schemas.codes import RejectionReason
from schemas.result import OrderPriority
from schemas.tables import Delivery, DeliveryState, Instance, Result, ResultImage, Study, WorkState

_NOT_SENT = "Not sent: its result was withdrawn."


def withdraw_sent(session: Session, study: Study, which: ColumnElement[bool]) -> None:
    """Withdraw every version of the results that satisfy `which`, within the caller's transaction.

    What no destination was sent yet is not sent; of what any may have, a rejection note becomes due.
    """
    results = session.scalars(
        select(Result).where(
            Result.study_id == study.id,
            which,
            Result.state == WorkState.DONE,
            ~exists().where(Withdrawal.result_id == Result.id),
        )
    ).all()
    keys = [each.id for each in results]
    never_tried = and_(Delivery.state == DeliveryState.DUE, Delivery.attempts == 0)
    for waits in (never_tried, Delivery.state == DeliveryState.FAILED):
        session.execute(
            update(Delivery)
            .where(Delivery.result_id.in_(keys), waits)
            .values(state=DeliveryState.WITHDRAWN, error=_NOT_SENT, finished_at=now())
            .execution_options(synchronize_session=False)
        )
    for key in keys:
        sent = select(Delivery.id).where(Delivery.result_id == key, Delivery.state != DeliveryState.WITHDRAWN)
        if session.scalar(sent.limit(1)) is not None:
            session.add(
                Withdrawal(
                    result_id=key,
                    reason=_reason(session, key),
                    priority=PRIORITY[OrderPriority.STAT],
                    due_at=now(),
                    created_at=now(),
                )
            )


def _reason(session: Session, result_id: int) -> RejectionReason:
    """Why the images that it was made from were rejected; where none was, the result is just not good any more."""
    found = session.scalars(
        select(Rejection.reason)
        .join(Instance, Instance.sop_instance_uid == Rejection.sop_instance_uid)
        .join(ResultImage, ResultImage.instance_id == Instance.id)
        .where(ResultImage.result_id == result_id, Rejection.lifted_at.is_(None))
    )
    return most_serious(map(RejectionReason, found)) or RejectionReason.QUALITY
