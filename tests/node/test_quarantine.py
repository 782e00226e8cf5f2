"""Quarantine: what contradicts or was given up is set aside with its reason and bytes, and can be taken up again."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from sqlalchemy import select, update

from node.intake.quarantine import correct_patient, retry
from node.intake.quarantine_command import export, quarantine_group
from node.intake.quarantine_entries import EntryName, quarantine_count, quarantine_entries
from node.intake.reception import Answer, ReceptionDesk
from node.intake.reconciliation import reconcile
from node.ledger.ledger import Ledger
from node.storage.object_store import FolderObjectStore
from node.worklist import Selection, Show, read_worklist
from schemas.change_tables import Quarantined
from schemas.codes import RejectionReason
from schemas.errors import NotReleasedError
from schemas.settings import Settings
from schemas.tables import Inference, Instance, Outcome, Reception, Result, Study, WorkState
from tests.node.arrivals import commit_result, count, finish_inferences, plan, take
from tests.support.phantoms import write_phantom
from tests.support.rejection_notes import write_note


@pytest.fixture
def first(tmp_path: Path) -> Dataset:
    return write_phantom(tmp_path / "a.dcm", rows=300, columns=300)


@pytest.fixture
def second(tmp_path: Path, first: Dataset) -> Dataset:
    return write_phantom(tmp_path / "b.dcm", seed=2, rows=300, columns=300, study=first)


def of(patient: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        dataset.PatientID, dataset.PatientName = patient, "山田^太郎"
        dataset.SpecificCharacterSet = "ISO_IR 192"

    return change


def patients(ledger: Ledger) -> list[str]:
    with ledger.read() as session:
        return list(session.scalars(select(Study.patient_id)))


def outcomes(ledger: Ledger) -> list[str]:
    with ledger.read() as session:
        return list(session.scalars(select(Reception.outcome).order_by(Reception.id)))


def test_a_study_of_which_every_object_comes_again_with_another_patient_id_was_corrected(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, second: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "b.dcm")
    finish_inferences(ledger)
    plan(ledger)
    commit_result(ledger)
    take(desk, store, tmp_path / "a.dcm", of("RIGHT"))
    assert patients(ledger) == [first.PatientID]  # one of two: it may be a mix-up
    assert plan(ledger) == 0
    take(desk, store, tmp_path / "b.dcm", of("RIGHT"))
    assert patients(ledger) == ["RIGHT"]
    assert outcomes(ledger) == [Outcome.NEW] * 2 + [Outcome.HEADER_CHANGED] * 2
    assert count(ledger, Quarantined) == 0
    assert count(ledger, Inference) == 2
    assert plan(ledger) == 1
    with ledger.read() as session:
        newest = session.scalars(select(Result).order_by(Result.version.desc())).first()
        assert newest is not None
        assert {dcmread(store.path(each.file_sha256)).PatientID for each in newest.images} == {"RIGHT"}
        found = read_worklist(session, Selection(show=Show.ALL, search="right"))
    assert len(found.rows) == 1


def test_an_image_of_another_patient_in_the_same_study_stays_in_quarantine(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, second: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    assert take(desk, store, tmp_path / "b.dcm", of("OTHER")) is Answer.KEPT
    assert take(desk, store, tmp_path / "b.dcm", of("OTHER")) is Answer.DUPLICATE
    assert outcomes(ledger) == [Outcome.NEW, Outcome.QUARANTINED]
    assert [count(ledger, table) for table in (Instance, Inference, Quarantined)] == [1, 1, 1]
    assert patients(ledger) == [first.PatientID]


def test_other_pixels_under_the_same_uid_and_another_patient_are_no_correction(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, tmp_path: Path
) -> None:
    def another(dataset: Dataset) -> None:
        of("OTHER")(dataset)
        dataset.PixelData = dataset.PixelData[:-2] + b"\1\0"

    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "a.dcm", another)
    assert outcomes(ledger) == [Outcome.NEW, Outcome.QUARANTINED]
    assert patients(ledger) == [first.PatientID]


def test_an_operator_who_knows_the_right_patient_can_say_so(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, second: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "b.dcm", of("RIGHT"))
    with ledger.read() as session:
        (entry,) = quarantine_entries(session)
    assert correct_patient(ledger, store, Settings(), entry.name) == 1
    assert patients(ledger) == ["RIGHT"]
    assert [count(ledger, table) for table in (Instance, Inference, Quarantined)] == [2, 2, 0]
    with pytest.raises(NotReleasedError):
        correct_patient(ledger, store, Settings(), entry.name)


def test_a_patient_id_that_was_not_known_at_first_or_is_left_out_contradicts_nothing(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, second: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm", of(""))
    take(desk, store, tmp_path / "a.dcm", of("KNOWN"))
    take(desk, store, tmp_path / "b.dcm", of(""))
    assert patients(ledger) == ["KNOWN"]
    assert count(ledger, Quarantined) == 0


def test_a_known_uid_in_another_study_stays_in_quarantine_with_its_bytes(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, tmp_path: Path
) -> None:
    def move(dataset: Dataset) -> None:
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(prefix=None), generate_uid(prefix=None)

    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "a.dcm", move)
    with ledger.read() as session:
        (entry,) = quarantine_entries(session)
        assert quarantine_count(session) == 1
    (path,) = export(entry, store, tmp_path / "out")
    assert sha256(path.read_bytes()).hexdigest() == entry.files[0]
    assert "known in series" in json.loads((tmp_path / "out" / f"{entry.name}.json").read_text())["reason"]
    with pytest.raises(NotReleasedError, match="known in series"):
        retry(ledger, store, Settings(), entry.name)
    assert count(ledger, Quarantined) == 1


def test_a_correction_whose_process_died_before_it_was_applied_is_applied_at_the_next_start(
    ledger: Ledger,
    desk: ReceptionDesk,
    store: FolderObjectStore,
    first: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    with monkeypatch.context() as dies:
        dies.setattr("node.intake.reception.release_corrected", lambda *_: 0)
        take(desk, store, tmp_path / "a.dcm", of("RIGHT"))
    assert patients(ledger) == [first.PatientID]
    reconcile(ledger, store, desk)
    assert patients(ledger) == ["RIGHT"]


def test_what_contradicted_a_rejected_image_is_taken_in(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, second: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "b.dcm", of("OTHER"))
    write_note(tmp_path / "note.dcm", [first], RejectionReason.INCORRECT_WORKLIST_ENTRY)
    take(desk, store, tmp_path / "note.dcm")
    assert outcomes(ledger)[1] == Outcome.NEW
    assert patients(ledger) == ["OTHER"]


def test_an_analysis_that_was_given_up_is_listed_and_taken_up_again_alone(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, first: Dataset, second: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "b.dcm")
    finish_inferences(ledger, WorkState.FAILED)
    ledger.write(lambda session: session.execute(update(Inference).values(error="It hangs.", attempts=4)))
    plan(ledger)
    with ledger.read() as session:
        entries = quarantine_entries(session)
    assert {each.sop_instance_uid for each in entries} == {first.SOPInstanceUID, second.SOPInstanceUID}
    assert {each.reason for each in entries} == {"It hangs."}
    retry(ledger, store, Settings(), entries[0].name)
    with ledger.read() as session:
        states = {each.id: each.state for each in session.scalars(select(Inference))}
        assert session.scalars(select(Study.result_due_at)).one() is not None
    assert states.pop(entries[0].name.row) == WorkState.DUE
    assert set(states.values()) == {WorkState.FAILED}
    with pytest.raises(NotReleasedError, match="any more"):
        retry(ledger, store, Settings(), entries[0].name)


def test_the_command_lists_and_retries_and_says_by_its_status_whether_anything_stays(
    ledger: Ledger,
    desk: ReceptionDesk,
    store: FolderObjectStore,
    first: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHEXNODE_HOME", str(tmp_path))
    monkeypatch.setenv("CHEXNODE_LEDGER_URL", ledger.url)
    run = CliRunner().invoke
    assert run(quarantine_group, ["list"]).exit_code == 0
    take(desk, store, tmp_path / "a.dcm")
    finish_inferences(ledger, WorkState.FAILED)
    listed = run(quarantine_group, ["list", "--json"])
    (entry,) = json.loads(listed.output)
    assert (listed.exit_code, entry["sop_instance_uid"]) == (1, first.SOPInstanceUID)
    assert run(quarantine_group, ["export", entry["name"], str(tmp_path / "out")]).exit_code == 0
    assert run(quarantine_group, ["retry", "--all"]).exit_code == 0
    assert run(quarantine_group, ["list"]).exit_code == 0
    assert run(quarantine_group, ["retry", "nonsense-1"]).exit_code == 1


@pytest.mark.parametrize("text", ["", "object", "object-", "object-x", "object--1", "object-１", "planet-1"])
def test_a_name_that_names_no_entry_is_refused(text: str) -> None:
    with pytest.raises(NotReleasedError):
        EntryName.parse(text)
