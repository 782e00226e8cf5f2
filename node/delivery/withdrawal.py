"""Which deliveries wait, and which end without having been sent: for the delivery workers and the sweep."""

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session, aliased

from node.ledger.ledger import now
from schemas.settings import Destination, ResultObject
from schemas.tables import Delivery, DeliveryState, Result, StoredObject

#: How long a report waits for the segmentations that it refers to: a destination that takes the one and not the others
#: shall have it all the same.
_PATIENCE_SECONDS = 600.0

_REPLACED = "Not sent: a later version of the result took its place."


def waits_for_companions() -> ColumnElement[bool]:
    """Condition: another object of the same result has to be there first."""
    earlier = aliased(Delivery)
    return exists().where(
        earlier.result_id == Delivery.result_id,
        earlier.destination == Delivery.destination,
        earlier.rank < Delivery.rank,
        earlier.state.in_([DeliveryState.DUE, DeliveryState.LEASED]),
        _since(earlier) > now() - _PATIENCE_SECONDS,
    )


def replaced() -> ColumnElement[bool]:
    """Condition: a later version of the result is there for the same destination, which says what this one would.

    Not a rejection note: whatever came later, what it withdraws is still at the destination.
    """
    note = select(StoredObject.id).where(
        StoredObject.id == Delivery.object_id, StoredObject.kind == ResultObject.REJECTION_NOTE
    )
    own, later, successor = aliased(Result), aliased(Result), aliased(Delivery)
    successors = (
        select(successor.id)
        .join(later, later.id == successor.result_id)
        .join(own, own.id == Delivery.result_id)
        .where(
            successor.destination == Delivery.destination,
            later.study_id == own.study_id,
            later.bundle_name == own.bundle_name,
            later.version > own.version,
        )
        .correlate(Delivery)
    )
    return and_(successors.exists(), ~note.correlate(Delivery).exists())


def withdraw_replaced(session: Session, destination: Destination) -> int:
    """Withdraw what waits or was given up and has been replaced; returns how many."""
    return _end(
        session,
        DeliveryState.WITHDRAWN,
        _REPLACED,
        Delivery.destination == destination.name,
        Delivery.state.in_([DeliveryState.DUE, DeliveryState.FAILED]),
        replaced(),
    )


def give_up_late(session: Session, destination: Destination) -> int:
    """Give up what the destination has not taken for as long as its settings allow; returns how many."""
    hours = destination.give_up_after_hours
    left_behind = and_(Delivery.state == DeliveryState.LEASED, Delivery.lease_expires_at < now())
    reason = func.coalesce(func.nullif(Delivery.error, ""), "It was never tried.")
    return _end(
        session,
        DeliveryState.FAILED,
        f"Given up after {hours:g} hours. " + reason,
        Delivery.destination == destination.name,
        or_(Delivery.state == DeliveryState.DUE, left_behind),
        _since(Delivery) < now() - hours * 3600,
    )


def drop(session: Session, delivery_ids: list[int], why: str) -> int:
    """Withdraw deliveries that nobody is at and that are not done; returns how many."""
    return _end(
        session,
        DeliveryState.WITHDRAWN,
        f"Dropped: {why}",
        Delivery.id.in_(delivery_ids),
        Delivery.state.in_([DeliveryState.DUE, DeliveryState.FAILED]),
    )


def _since(delivery: type[Delivery]) -> ColumnElement[float]:
    """When the destination's time for it began."""
    return func.coalesce(delivery.taken_up_at, delivery.created_at)


def _end(session: Session, state: DeliveryState, reason: str | ColumnElement[str], *where: ColumnElement[bool]) -> int:
    ended = session.execute(
        update(Delivery)
        .where(*where)
        .values(state=state, error=reason, finished_at=now(), lease_token=None)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(ended, CursorResult)
    return ended.rowcount
