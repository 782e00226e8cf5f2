"""Destinations are kept apart: a dead, slow or refusing one delays no other, and is not asked all the time."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import update

from node.delivery.breaker import claim_delivery, due_deliveries, note_answer, note_failure
from node.delivery.withdrawal import give_up_late, withdraw_replaced
from node.delivery.worker import Deliverer
from node.ledger.ledger import Ledger
from node.storage.object_store import FolderObjectStore
from schemas.destination_tables import Breaker, DestinationState
from schemas.errors import DeliveryError, DestinationDownError
from schemas.settings import DicomDestination, FolderDestination, ResultObject, Settings, WorkSettings
from schemas.tables import Delivery, DeliveryState
from tests.doctor.examining import silent_port
from tests.node.deliverables import add_result, deliveries
from tests.support.processes import wait_for

HURRY = WorkSettings(backoff_seconds=0.01, backoff_maximum_seconds=0.02)


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjectStore:
    return FolderObjectStore(tmp_path / "objects")


def blocked(tmp_path: Path, **options: float) -> FolderDestination:
    """A destination that cannot be written: a file is in its way, until that is removed."""
    (tmp_path / "out").write_text("in the way")
    return FolderDestination.model_validate({"name": "out", "path": tmp_path / "out", "probe_seconds": 0.2, **options})


def deliverer(ledger: Ledger, store: FolderObjectStore, destination: FolderDestination | DicomDestination) -> Deliverer:
    return Deliverer(ledger, store, Settings(work=HURRY, destinations=[destination]), destination)


def state_of(ledger: Ledger, name: str) -> DestinationState:
    with ledger.read() as session:
        return session.get_one(DestinationState, name)


def test_a_dead_destination_is_left_alone_then_probed_and_everything_follows_the_first_success(
    ledger: Ledger, objects: FolderObjectStore, tmp_path: Path
) -> None:
    destination = blocked(tmp_path, failures_until_open=3)
    for _ in range(4):
        add_result(ledger, objects, ["out"])
    worker = deliverer(ledger, objects, destination)

    def left_alone() -> bool:
        worker.deliver_due()
        return state_of(ledger, "out").breaker == Breaker.OPEN

    wait_for("it is left alone", left_alone)
    assert "out" in state_of(ledger, "out").error
    tried = sum(each.attempts for each in deliveries(ledger, "out"))
    worker.deliver_due()
    assert sum(each.attempts for each in deliveries(ledger, "out")) <= tried + 1  # a probe at most
    (tmp_path / "out").unlink()

    def delivered() -> bool:
        with ledger.read() as session:
            if due_deliveries(session, "out"):
                worker.deliver_due()
        return all(each.state == DeliveryState.DONE for each in deliveries(ledger, "out"))

    wait_for("everything is delivered", delivered)
    closed = state_of(ledger, "out")
    assert (closed.breaker, closed.failures, closed.error, closed.probe_at) == (Breaker.CLOSED, 0, "", None)


def test_one_bad_object_alone_never_closes_a_destination_to_the_others(ledger: Ledger, tmp_path: Path) -> None:
    destination = FolderDestination(name="out", path=tmp_path, failures_until_open=3)
    for _ in range(10):
        ledger.write(lambda session: note_failure(session, destination, 7, DeliveryError("it chokes on this one")))
    assert state_of(ledger, "out").breaker == Breaker.CLOSED
    for delivery in (8, 9):
        ledger.write(lambda session, key=delivery: note_failure(session, destination, key, DeliveryError("and this")))  # type: ignore[misc]
    assert state_of(ledger, "out").breaker == Breaker.OPEN


def test_each_probe_is_another_delivery(ledger: Ledger, objects: FolderObjectStore, tmp_path: Path) -> None:
    destination = FolderDestination(name="out", path=tmp_path, failures_until_open=1, probe_seconds=0.001)
    for _ in range(2):
        add_result(ledger, objects, ["out"])
    poison, fresh = (each.id for each in deliveries(ledger, "out"))
    ledger.write(
        lambda session: session.execute(
            update(Delivery).where(Delivery.id == poison).values(attempts=5, priority=0, due_at=0.0)
        )
    )
    ledger.write(lambda session: note_failure(session, destination, poison, DestinationDownError("away")))

    def probe() -> int | None:
        lease = ledger.write(lambda session: claim_delivery(session, destination, HURRY))
        return lease.row_id if lease else None

    assert wait_for("a probe is due", probe) == fresh
    ledger.write(lambda session: note_answer(session, "out"))
    assert probe() == poison


def test_no_more_objects_are_under_way_than_the_destination_allows_however_many_workers_there_are(
    ledger: Ledger, objects: FolderObjectStore, tmp_path: Path
) -> None:
    destination = FolderDestination(name="out", path=tmp_path / "out", concurrent_sends=3)
    for _ in range(6):
        add_result(ledger, objects, ["out"])
    claimed: list[object] = []

    def claim() -> None:
        lease = ledger.write(lambda session: claim_delivery(session, destination, WorkSettings()))
        claimed.append(lease)

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each is not None for each in claimed) == 3


def test_a_destination_that_never_answers_holds_up_no_other(
    ledger: Ledger, objects: FolderObjectStore, tmp_path: Path
) -> None:
    with silent_port() as port:
        silent = DicomDestination(
            name="silent", host="127.0.0.1", port=port, ae_title="X", calling_ae_title="Y", timeout_seconds=30
        )
        folder = FolderDestination(name="out", path=tmp_path / "out")
        for _ in range(3):
            add_result(ledger, objects, ["silent", "out"])
        stuck = threading.Thread(target=deliverer(ledger, objects, silent).deliver_due, daemon=True)
        stuck.start()
        wait_for(
            "it is being called",
            lambda: any(each.state == DeliveryState.LEASED for each in deliveries(ledger, "silent")),
        )
        deliverer(ledger, objects, folder).deliver_due()
        assert all(each.state == DeliveryState.DONE for each in deliveries(ledger, "out"))
        assert stuck.is_alive()
    stuck.join()


def test_an_older_version_is_not_sent_after_a_newer_one_but_its_rejection_note_is(
    ledger: Ledger, objects: FolderObjectStore, tmp_path: Path
) -> None:
    destination = FolderDestination(name="out", path=tmp_path / "out")
    study = add_result(ledger, objects, ["out"], [ResultObject.REPORT, ResultObject.REJECTION_NOTE])
    add_result(ledger, objects, ["out"], study_instance_uid=study, version=2)
    worker = deliverer(ledger, objects, destination)
    # Before the sweep has come: the claim itself passes it over.
    worker.deliver_due()
    older, _, newer = deliveries(ledger, "out")
    assert (older.state, newer.state) == (DeliveryState.DUE, DeliveryState.DONE)
    assert ledger.write(lambda session: withdraw_replaced(session, destination)) == 1
    worker.deliver_due()
    older, note, _ = deliveries(ledger, "out")
    assert older.state == DeliveryState.WITHDRAWN and "later version" in older.error
    assert note.state == DeliveryState.DONE


def test_what_is_not_taken_in_time_is_given_up_with_its_reason(
    ledger: Ledger, objects: FolderObjectStore, tmp_path: Path
) -> None:
    destination = blocked(tmp_path, give_up_after_hours=2)
    add_result(ledger, objects, ["out"], age_seconds=3 * 3600)
    add_result(ledger, objects, ["out"], age_seconds=1 * 3600)
    deliverer(ledger, objects, destination).deliver_due()
    assert ledger.write(lambda session: give_up_late(session, destination)) == 1
    old, young = deliveries(ledger, "out")
    assert old.state == DeliveryState.FAILED and young.state == DeliveryState.DUE
    assert old.error.startswith("Given up after 2 hours. ") and "does not answer" in old.error
