"""Rejection notes (IHE Imaging Object Change Management): what they name is not analysed and not spoken of any more."""

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from sqlalchemy import select, update

from node.intake.reception import Answer, ReceptionDesk
from node.ledger.ledger import Ledger, now
from node.storage.object_store import FolderObjectStore
from schemas.change_tables import Rejection, Withdrawal
from schemas.codes import RejectionReason
from schemas.identity import MANUFACTURER
from schemas.settings import FolderDestination, ResultObject, Settings
from schemas.tables import (
    Delivery,
    DeliveryState,
    Inference,
    Instance,
    Outcome,
    Reception,
    Result,
    StoredObject,
    Study,
    WorkState,
)
from tests.node.arrivals import commit_result, count, deliver, finish_inferences, plan, take
from tests.support.dicom_tools import dciodvfy_errors
from tests.support.phantoms import write_phantom
from tests.support.rejection_notes import write_note
from workers.withdrawals import Withdrawals


@pytest.fixture
def first(tmp_path: Path) -> Dataset:
    return write_phantom(tmp_path / "a.dcm", rows=300, columns=300)


@pytest.fixture
def second(tmp_path: Path, first: Dataset) -> Dataset:
    return write_phantom(tmp_path / "b.dcm", seed=2, rows=300, columns=300, study=first)


def instance_of(ledger: Ledger, header: Dataset) -> Instance:
    with ledger.read() as session:
        return session.scalars(select(Instance).where(Instance.sop_instance_uid == header.SOPInstanceUID)).one()


def test_a_rejected_image_is_not_in_the_next_version_which_replaces_the_last_one(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, second: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "b.dcm")
    finish_inferences(ledger)
    plan(ledger)
    commit_result(ledger)
    write_note(tmp_path / "note.dcm", [second], RejectionReason.QUALITY)
    take(desk, store, tmp_path / "note.dcm")
    assert plan(ledger) == 1
    with ledger.read() as session:
        before, after = session.scalars(select(Result).order_by(Result.version)).all()
        assert [each.instance.sop_instance_uid for each in before.images] == [
            first.SOPInstanceUID,
            second.SOPInstanceUID,
        ]
        assert [each.instance.sop_instance_uid for each in after.images] == [first.SOPInstanceUID]
    assert after.predecessor_id == before.id
    assert "Rejected for Quality Reasons" in instance_of(ledger, second).route_explanation
    assert count(ledger, Withdrawal) == 0


@pytest.mark.parametrize("reason", RejectionReason)
def test_an_image_that_comes_after_its_note_is_kept_and_not_analysed_unless_only_its_retention_had_expired(
    reason: RejectionReason,
    ledger: Ledger,
    desk: ReceptionDesk,
    store: FolderObjectStore,
    first: Dataset,
    tmp_path: Path,
) -> None:
    write_note(tmp_path / "note.dcm", [first], reason)
    take(desk, store, tmp_path / "note.dcm")
    assert take(desk, store, tmp_path / "a.dcm") is Answer.KEPT
    may_come = reason is RejectionReason.RETENTION_EXPIRED
    assert count(ledger, Inference) == may_come
    assert instance_of(ledger, first).selected is may_come
    assert instance_of(ledger, first).file_sha256 in set(store)


@pytest.mark.parametrize("reason", RejectionReason)
def test_a_rejected_image_that_comes_again_stays_out_unless_only_its_retention_had_expired(
    reason: RejectionReason,
    ledger: Ledger,
    desk: ReceptionDesk,
    store: FolderObjectStore,
    first: Dataset,
    tmp_path: Path,
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    finish_inferences(ledger)
    plan(ledger)
    commit_result(ledger)
    write_note(tmp_path / "note.dcm", [first], reason)
    take(desk, store, tmp_path / "note.dcm")
    assert plan(ledger) == 0
    with ledger.read() as session:
        assert session.scalars(select(Result.current)).all() == [False]
    if reason is RejectionReason.RETENTION_EXPIRED:
        assert take(desk, store, tmp_path / "a.dcm") is Answer.KEPT
        assert plan(ledger) == 1
        with ledger.read() as session:
            assert session.scalars(select(Reception.outcome).order_by(Reception.id)).all()[-1] == Outcome.RESTORED
    else:
        assert take(desk, store, tmp_path / "a.dcm") is Answer.DUPLICATE
        take(desk, store, tmp_path / "a.dcm", lambda dataset: setattr(dataset, "PatientName", "Corrected"))
        assert plan(ledger) == 0
        assert not instance_of(ledger, first).selected


def test_nothing_is_made_of_an_image_that_is_rejected_meanwhile(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    finish_inferences(ledger)
    plan(ledger)
    ledger.write(lambda session: session.execute(update(Result).values(state=WorkState.LEASED, lease_token="x")))
    ledger.write(lambda session: session.execute(update(Study).values(waiting_since=now(), due_at=now())))
    write_note(tmp_path / "note.dcm", [first], RejectionReason.PATIENT_SAFETY)
    take(desk, store, tmp_path / "note.dcm")
    assert plan(ledger) == 0
    assert [count(ledger, table) for table in (Result, StoredObject, Withdrawal)] == [0, 0, 0]
    with ledger.read() as session:
        study = session.scalars(select(Study)).one()
    assert (study.result_due_at, study.due_at, study.waiting_since) == (None, None, None)


def test_an_image_that_waits_for_its_analysis_is_not_analysed_once_it_is_rejected(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    write_note(tmp_path / "note.dcm", [first], RejectionReason.INCORRECT_WORKLIST_ENTRY)
    take(desk, store, tmp_path / "note.dcm")
    assert count(ledger, Inference) == 0


def test_a_note_takes_nothing_out_of_a_study_that_it_does_not_name(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, tmp_path: Path
) -> None:
    elsewhere = dcmread(tmp_path / "a.dcm", stop_before_pixels=True)
    elsewhere.StudyInstanceUID = generate_uid(prefix=None)
    write_note(tmp_path / "note.dcm", [elsewhere], RejectionReason.QUALITY)
    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "note.dcm")
    assert instance_of(ledger, first).selected


def test_our_own_note_coming_back_is_not_obeyed(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    write_note(tmp_path / "note.dcm", [first], RejectionReason.QUALITY, Manufacturer=MANUFACTURER)
    take(desk, store, tmp_path / "note.dcm")
    assert instance_of(ledger, first).selected
    assert count(ledger, Rejection) == 0


class _Hints:
    """Keeps hints instead of publishing them."""

    def hint(self, queue: str) -> None: ...


def test_who_was_sent_a_result_of_which_no_image_is_left_is_sent_a_rejection_note_for_exactly_that(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    finish_inferences(ledger)
    plan(ledger)
    commit_result(ledger)
    # Stands in for the report, whose patient and study the note takes over.
    content = part10(first)
    sr, seg = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.66.4"
    for kind, sop_class in ((ResultObject.REPORT, sr), (ResultObject.SEGMENTATION, seg)):
        values = {"sop_class_uid": sop_class, "sha256": store.put(content)}
        ledger.write(
            lambda session, kind=kind, values=values: session.execute(  # type: ignore[misc]
                update(StoredObject).where(StoredObject.kind == kind).values(**values)
            )
        )
    deliver(ledger, "pacs")
    deliver(ledger, "slow", DeliveryState.DUE)
    deliver(ledger, "picky", DeliveryState.FAILED)
    write_note(tmp_path / "note.dcm", [first], RejectionReason.PATIENT_SAFETY)
    take(desk, store, tmp_path / "note.dcm")
    plan(ledger)

    destinations = [FolderDestination(name=name, path=tmp_path / name) for name in ("pacs", "slow", "picky")]
    withdrawals = Withdrawals(Settings(destinations=destinations), ledger, store, _Hints())  # type: ignore[arg-type]
    assert withdrawals.send_one()
    assert not withdrawals.send_one()
    with ledger.read() as session:
        states = {each.destination: each.state for each in session.scalars(select(Delivery).where(Delivery.rank < 3))}
        (note,) = session.scalars(select(Delivery).where(Delivery.rank == 3)).all()
        stored = note.object
        named = set(session.scalars(select(StoredObject.sop_instance_uid).where(StoredObject.id != stored.id)))
    assert states == {"pacs": "done", "slow": "withdrawn", "picky": "withdrawn"}
    assert (note.destination, note.state) == ("pacs", "due")
    assert stored.sha256
    written = dcmread(BytesIO(store.get(stored.sha256)))
    assert written.ConceptNameCodeSequence[0].CodeValue == "113037"
    assert written.PatientName == first.PatientName
    assert {item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in written.ContentSequence} == named
    assert dciodvfy_errors(store.path(stored.sha256)) == []


def part10(dataset: Dataset) -> bytes:
    with BytesIO() as stream:
        dataset.save_as(stream, enforce_file_format=True)
        return stream.getvalue()
