"""Whether a destination is sent to at present: its slots and its circuit breaker, in the ledger, for all workers alike.

The breaker opens after so many failures in a row; then one delivery is tried now and then, and the first that gets an
answer closes it. One bad object never opens it: only a destination that cannot be reached, or that fails different
objects one after the other.
"""

import random

import structlog
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from node.ledger.leases import NO_LIMIT, Lease, claim_in, claimable
from node.ledger.ledger import now
from schemas.destination_tables import Breaker, DestinationState
from schemas.errors import DeliveryError, DestinationDownError
from schemas.settings import Destination, WorkSettings
from schemas.tables import Delivery, DeliveryState

log = structlog.get_logger()


def claim_delivery(
    session: Session, destination: Destination, work: WorkSettings, *where: ColumnElement[bool]
) -> Lease | None:
    """Claim the most urgent due delivery that satisfies `where`; None when there is none, no slot or no admission."""
    state = _locked(session, destination.name)
    mine = Delivery.destination == destination.name
    if state.breaker == Breaker.OPEN and not session.scalar(select(_probe_is_due(destination.name))):
        return None
    under_way = select(func.count()).where(
        mine, Delivery.state == DeliveryState.LEASED, Delivery.lease_expires_at >= now()
    )
    if (session.scalar(under_way) or 0) >= destination.concurrent_sends:
        return None
    if state.breaker == Breaker.CLOSED:
        return claim_in(session, Delivery, work, NO_LIMIT, mine, *where)
    # Another one each time, however urgent it is and however long it was to wait: the object that goes first may be
    # what the destination chokes on.
    waiting = select(Delivery.id).where(mine, Delivery.state == DeliveryState.DUE, *where)
    tried = session.scalar(waiting.order_by(Delivery.attempts, Delivery.priority, Delivery.due_at).limit(1))
    if tried is not None:
        _make_due(session, Delivery.id == tried)
        where = (*where, Delivery.id == tried)
    lease = claim_in(session, Delivery, work, NO_LIMIT, mine, *where)
    if lease is not None:
        state.probe_at = now() + _wait(destination)
    return lease


def note_failure(session: Session, destination: Destination, delivery_id: int, error: DeliveryError) -> None:
    """Count a failure that may be the destination's, and open the breaker when there are too many in a row."""
    state = _locked(session, destination.name)
    down = isinstance(error, DestinationDownError)
    if down or delivery_id != state.failed_delivery_id:
        state.failures += 1
    state.failed_delivery_id = delivery_id
    state.failed_at, state.error = now(), str(error)[:4000].replace("\0", "")
    if state.failures < destination.failures_until_open:
        return
    if state.breaker == Breaker.CLOSED:
        log.error("destination left alone for a while", destination=destination.name, error=error)
        state.breaker, state.opened_at = Breaker.OPEN, now()
    state.probe_at = now() + _wait(destination)


def note_answer(session: Session, destination: str) -> None:
    """The destination answered: whatever it said of the object, it is there. What waited for it is due at once."""
    state = _locked(session, destination)
    if state.breaker == Breaker.OPEN:
        log.info("destination answers again", destination=destination)
        _make_due(session, Delivery.destination == destination, Delivery.state == DeliveryState.DUE)
    state.breaker, state.opened_at, state.probe_at = Breaker.CLOSED, None, None
    state.failures, state.failed_delivery_id, state.error = 0, None, ""
    state.succeeded_at = now()


def due_deliveries(session: Session, destination: str) -> int:
    """How many deliveries a worker could claim now; of a destination whose breaker is open at most one."""
    mine = Delivery.destination == destination
    breaker = session.scalar(select(DestinationState.breaker).where(DestinationState.destination == destination))
    if breaker == Breaker.OPEN:
        waiting = select(Delivery.id).where(mine, Delivery.state == DeliveryState.DUE).exists()
        return 1 if session.scalar(select(_probe_is_due(destination) & waiting)) else 0
    return session.scalar(select(func.count()).where(mine, claimable(Delivery, NO_LIMIT))) or 0


def try_now(session: Session, destination: str) -> None:
    """Have the next delivery tried at once although the breaker is open: somebody mended the destination."""
    session.execute(
        update(DestinationState)
        .where(DestinationState.destination == destination, DestinationState.breaker == Breaker.OPEN)
        .values(probe_at=now())
        .execution_options(synchronize_session=False)
    )


def _locked(session: Session, name: str) -> DestinationState:
    """The destination's row, held until the transaction ends."""
    held = select(DestinationState).where(DestinationState.destination == name).with_for_update()
    state = session.scalars(held.execution_options(populate_existing=True)).one_or_none()
    if state is None:
        state = DestinationState(destination=name, breaker=Breaker.CLOSED, failures=0, error="")
        session.add(state)
        session.flush()
    return state


def _probe_is_due(name: str) -> ColumnElement[bool]:
    due = select(DestinationState.destination).where(
        DestinationState.destination == name, DestinationState.probe_at <= now()
    )
    return due.exists()


def _wait(destination: Destination) -> float:
    return destination.probe_seconds * random.uniform(0.8, 1.2)


def _make_due(session: Session, *where: ColumnElement[bool]) -> None:
    session.execute(
        update(Delivery)
        .where(*where, Delivery.due_at > now())
        .values(due_at=now())
        # Kept as they are, those that were due already: the oldest goes first.
        .execution_options(synchronize_session=False)
    )
