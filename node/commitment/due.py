"""Which delivered objects a destination is to be asked about, and which not any more: for delivery worker and sweep."""

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from node.ledger.ledger import now
from schemas.settings import DicomDestination
from schemas.tables import Commitment, Delivery, DeliveryState


def due_for_commitment(destination: DicomDestination) -> ColumnElement[bool]:
    """Condition on Delivery: it is stored there, and to be asked for, or to be asked for again."""
    return and_(_open(destination), Delivery.commitment_due_at <= now())


def commitments_due(session: Session, destination: DicomDestination) -> int:
    """How many objects are to be asked about now."""
    if not destination.commitment:
        return 0
    return session.scalar(select(func.count()).where(due_for_commitment(destination))) or 0


def give_up_commitment(session: Session, destination: DicomDestination) -> int:
    """Ask no more for what has not been committed to for as long as the settings allow; returns how many."""
    hours = destination.give_up_after_hours
    reason = func.coalesce(func.nullif(Delivery.commitment_error, ""), "It never reported.")
    ended = session.execute(
        update(Delivery)
        .where(_open(destination), Delivery.finished_at < now() - hours * 3600)
        .values(commitment=Commitment.FAILED, commitment_error=f"Not committed to within {hours:g} hours. " + reason)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(ended, CursorResult)
    return ended.rowcount


def _open(destination: DicomDestination) -> ColumnElement[bool]:
    return and_(
        Delivery.destination == destination.name,
        Delivery.state == DeliveryState.DONE,
        Delivery.commitment.in_([Commitment.WANTED, Commitment.REQUESTED]),
    )
