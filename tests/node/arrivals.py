"""Steps of a study through a ledger without any process: received, analysed, planned, made, delivered."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic

from pydicom import Dataset, dcmread
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from node.bundles.registry import active_bundles
from node.delivery.worker import RANK
from node.intake.received import read_received
from node.intake.reception import Answer, ReceptionDesk
from node.ledger.ledger import Ledger, now
from node.results.planning import plan_results, wanted_objects
from node.storage.object_store import FolderObjectStore
from schemas.settings import AllowedWaits, ResultObject
from schemas.tables import Delivery, DeliveryState, Inference, Result, StoredObject, Study, WorkState

WANTED = wanted_objects([])
WAITS = AllowedWaits()


def take(
    desk: ReceptionDesk, store: FolderObjectStore, path: Path, change: Callable[[Dataset], None] = lambda d: None
) -> Answer:
    """Receive the file at `path` after `change`, as the DIMSE service would."""
    dataset = dcmread(path)
    change(dataset)
    arrived = store.incoming / "arrived.dcm"
    dataset.save_as(arrived)
    return desk.take(read_received(arrived), "TEST", monotonic())


def count(ledger: Ledger, table: type) -> int:
    with ledger.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def finish_inferences(ledger: Ledger, state: WorkState = WorkState.DONE) -> None:
    ledger.write(lambda session: session.execute(update(Inference).values(state=state)))


def close(ledger: Ledger) -> None:
    ledger.write(
        lambda session: session.execute(
            update(Study).where(Study.result_due_at.is_not(None)).values(result_due_at=now() - 1)
        )
    )


def plan(ledger: Ledger) -> int:
    close(ledger)
    return ledger.write(lambda session: plan_results(session, active_bundles(session), WANTED, WAITS))


def commit_result(ledger: Ledger) -> None:
    """As if the newest version had been built."""

    def change(session: Session) -> None:
        newest = session.scalars(select(Result).order_by(Result.version.desc()).limit(1)).one()
        session.execute(update(Result).values(current=Result.id == newest.id, state=WorkState.DONE))

    ledger.write(change)


def deliver(ledger: Ledger, destination: str, state: DeliveryState = DeliveryState.DONE) -> None:
    """Deliveries of the newest version's objects, so far."""

    def change(session: Session) -> None:
        newest = session.scalars(select(Result).order_by(Result.id.desc()).limit(1)).one()
        for stored in session.scalars(select(StoredObject).where(StoredObject.result_id == newest.id)):
            session.add(
                Delivery(
                    object_id=stored.id,
                    result_id=newest.id,
                    destination=destination,
                    rank=RANK[ResultObject(stored.kind)],
                    state=state,
                    attempts=0 if state is DeliveryState.DUE else 1,
                    due_at=now(),
                    created_at=now(),
                )
            )

    ledger.write(change)
