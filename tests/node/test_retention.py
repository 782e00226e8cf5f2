"""Retention: files of studies that are done go by age or for space; what is not done never does, and no row does."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import select, update

from node.intake.reception import Answer, ReceptionDesk
from node.intake.reconciliation import reconcile
from node.ledger.ledger import Ledger, now
from node.storage.object_store import FolderObjectStore
from node.storage.removal import REMOVED, remove_noted
from node.storage.retention import Retention, Space
from schemas.change_tables import Quarantined, Removal
from schemas.codes import RejectionReason
from schemas.settings import StorageSettings
from schemas.tables import (
    Commitment,
    Delivery,
    DeliveryState,
    Inference,
    Instance,
    Reception,
    Result,
    Series,
    StoredObject,
    Study,
    WorkState,
)
from tests.node.arrivals import commit_result, count, deliver, finish_inferences, plan, take
from tests.support.phantoms import write_phantom
from tests.support.rejection_notes import write_note

MONTH = timedelta(days=30).total_seconds()


@pytest.fixture
def first(tmp_path: Path) -> Dataset:
    return write_phantom(tmp_path / "a.dcm", rows=300, columns=300)


def retention(ledger: Ledger, store: FolderObjectStore, **settings: float) -> Retention:
    return Retention(ledger, store, StorageSettings.model_validate({"minimum_free_bytes": 0, **settings}))


def finish_study(ledger: Ledger, store: FolderObjectStore, state: DeliveryState = DeliveryState.DONE) -> None:
    """Analyse, make and deliver what there is, with outputs and objects in the store; it came two months ago."""
    finish_inferences(ledger)
    with ledger.read() as session:
        outputs = {each.id: store.put(f"output {each.id}".encode()) for each in session.scalars(select(Inference))}
    for key, sha256 in outputs.items():
        ledger.write(
            lambda session, key=key, sha256=sha256: session.execute(  # type: ignore[misc]
                update(Inference).where(Inference.id == key).values(output_sha256=sha256)
            )
        )
    plan(ledger)
    commit_result(ledger)
    report = store.put(b"a result object")
    ledger.write(lambda session: session.execute(update(StoredObject).values(sha256=report)))
    deliver(ledger, "pacs", state)
    ledger.write(lambda session: session.execute(update(Study).values(last_received_at=now() - 2 * MONTH)))


def test_images_and_outputs_of_an_old_study_go_and_rows_and_result_objects_stay(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    finish_study(ledger, store)
    rows = [count(ledger, table) for table in (Study, Instance, Reception, Inference, Result, StoredObject)]
    assert retention(ledger, store, retention_days=90).once() == 0
    assert retention(ledger, store, retention_days=30).once() == 1
    assert [store.get(sha256) for sha256 in store] == [b"a result object"]
    assert [count(ledger, table) for table in (Study, Instance, Reception, Inference, Result, StoredObject)] == rows
    assert count(ledger, Removal) == 0
    # It is not taken for lost, nor for new.
    assert reconcile(ledger, store, desk).missing == []
    assert take(desk, store, tmp_path / "a.dcm") is Answer.DUPLICATE
    assert len(list(store)) == 1
    assert not list(store.incoming.iterdir())


def not_delivered(ledger: Ledger) -> None:
    ledger.write(lambda session: session.execute(update(Delivery).values(state=DeliveryState.FAILED)))


def not_committed(ledger: Ledger) -> None:
    ledger.write(lambda session: session.execute(update(Delivery).values(commitment=Commitment.REQUESTED)))


def not_analysed(ledger: Ledger) -> None:
    ledger.write(lambda session: session.execute(update(Inference).values(state=WorkState.FAILED)))


def not_made(ledger: Ledger) -> None:
    ledger.write(lambda session: session.execute(update(Result).values(state=WorkState.FAILED)))


def not_planned(ledger: Ledger) -> None:
    ledger.write(lambda session: session.execute(update(Study).values(result_due_at=now())))


def quarantined(ledger: Ledger) -> None:
    ledger.write(
        lambda session: session.add(
            Quarantined(reception_id=1, contradiction="other_patient", patient_id="", pixel_digest="")
        )
    )


@pytest.mark.parametrize("undone", [not_delivered, not_committed, not_analysed, not_made, not_planned, quarantined])
def test_a_study_that_is_not_done_keeps_its_files_whatever_its_age_and_the_space(
    undone: Callable[[Ledger], None],
    ledger: Ledger,
    desk: ReceptionDesk,
    store: FolderObjectStore,
    first: Dataset,
    tmp_path: Path,
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    finish_study(ledger, store)
    undone(ledger)
    files = set(store)
    assert retention(ledger, store, retention_days=1, keep_free_bytes=1 << 62).once() == 0
    assert set(store) == files


def test_for_space_the_oldest_go_first_and_no_more_than_needed(
    ledger: Ledger,
    desk: ReceptionDesk,
    store: FolderObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uids = []
    for seed, age in ((1, 3), (2, 1), (3, 2)):
        header = write_phantom(tmp_path / "a.dcm", seed=seed, rows=300, columns=300)
        take(desk, store, tmp_path / "a.dcm")
        uids.append(header.StudyInstanceUID)
        finish_inferences(ledger)
        plan(ledger)
        ledger.write(lambda session: session.execute(update(Result).values(state=WorkState.DONE)))
        ledger.write(
            lambda session, uid=uids[-1], age=age: session.execute(  # type: ignore[misc]
                update(Study).where(Study.study_instance_uid == uid).values(last_received_at=now() - age * MONTH)
            )
        )
    whole = sum(store.path(sha256).stat().st_size for sha256 in store)
    free = lambda _: Space(whole - sum(store.path(sha256).stat().st_size for sha256 in store), 2 * whole)  # noqa: E731
    monkeypatch.setattr("node.storage.retention.space", free)
    assert retention(ledger, store, keep_free_bytes=whole // 2).once() == 2
    with ledger.read() as session:
        removed = select(Study.study_instance_uid).where(Study.removed_at.is_not(None))
        assert set(session.scalars(removed)) == {uids[0], uids[2]}


def test_a_file_whose_remover_died_goes_later_and_not_when_the_image_has_come_again(
    ledger: Ledger,
    desk: ReceptionDesk,
    store: FolderObjectStore,
    first: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    finish_study(ledger, store)
    with monkeypatch.context() as dies:
        dies.setattr("node.storage.retention.remove_noted", lambda *_: 0)
        retention(ledger, store, retention_days=30).once()
    with ledger.read() as session:
        (image,) = session.scalars(select(Instance.file_sha256)).all()
    assert image in set(store)
    write_note(tmp_path / "note.dcm", [first], RejectionReason.RETENTION_EXPIRED)
    take(desk, store, tmp_path / "note.dcm")
    take(desk, store, tmp_path / "a.dcm")  # which ends the rejection
    remove_noted(ledger, store)
    assert image in set(store)
    assert count(ledger, Removal) == 0
    assert reconcile(ledger, store, desk).missing == []


def test_a_late_image_gets_a_result_that_says_what_was_removed_and_sent_again_that_is_in_it_too(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    finish_study(ledger, store)
    retention(ledger, store, retention_days=30).once()
    write_phantom(tmp_path / "b.dcm", seed=2, rows=300, columns=300, study=first)
    take(desk, store, tmp_path / "b.dcm")
    finish = update(Inference).where(Inference.state == WorkState.DUE).values(state=WorkState.DONE, error="")
    ledger.write(lambda session: session.execute(finish))
    assert plan(ledger) == 1
    with ledger.read() as session:
        newest = session.scalars(select(Result).order_by(Result.version.desc())).first()
        assert newest is not None
        assert [each.inference.error for each in newest.images] == [REMOVED, ""]
        assert [each.inference.state for each in newest.images] == ["failed", "done"]
    commit_result(ledger)
    assert take(desk, store, tmp_path / "a.dcm") is Answer.KEPT
    ledger.write(lambda session: session.execute(finish))
    assert plan(ledger) == 1
    with ledger.read() as session:
        states = session.scalars(select(Inference.state)).all()
    assert states == ["done", "done"]


def test_what_does_not_concern_a_removed_image_leaves_its_result_as_it_is(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, tmp_path: Path
) -> None:
    def lateral(dataset: Dataset) -> None:
        dataset.ViewPosition = "LL"

    other = write_phantom(tmp_path / "b.dcm", seed=2, rows=300, columns=300, study=first, change=lateral)
    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "b.dcm")
    finish_study(ledger, store)
    retention(ledger, store, retention_days=30).once()
    write_note(tmp_path / "note.dcm", [other], RejectionReason.QUALITY)
    take(desk, store, tmp_path / "note.dcm")
    assert plan(ledger) == 0
    with ledger.read() as session:
        assert session.scalars(select(Result.current)).all() == [True]
        assert session.scalars(select(Study.result_due_at)).one() is None


def test_pixels_that_another_study_shows_too_keep_their_output(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    finish_study(ledger, store)
    write_phantom(tmp_path / "same.dcm", rows=300, columns=300)
    take(desk, store, tmp_path / "same.dcm")
    with ledger.read() as session:
        first_study = session.scalar(select(Series.study_id).order_by(Series.id).limit(1))
    ledger.write(
        lambda session: session.execute(
            update(Study).where(Study.id == first_study).values(last_received_at=now() - 2 * MONTH)
        )
    )
    assert retention(ledger, store, retention_days=30).once() == 1
    with ledger.read() as session:
        (inference,) = session.scalars(select(Inference)).all()
    assert inference.output_sha256 in set(store)
