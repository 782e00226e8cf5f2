"""Reception, planning and reconciliation on a ledger, without any process around them."""

import threading
from datetime import datetime
from io import BytesIO
from pathlib import Path
from time import monotonic

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID
from sqlalchemy import func, select, update

from node.bundles.registry import active_bundles
from node.intake.received import read_received
from node.intake.reception import Answer, ReceptionDesk
from node.intake.reconciliation import reconcile
from node.intake.study_description import describe
from node.ledger.ledger import Ledger
from node.reading import mark
from node.results.planning import plan_results
from node.storage.object_store import FolderObjectStore
from schemas.codes import TubePosition
from schemas.identity import MANUFACTURER
from schemas.settings import ResultObject
from schemas.tables import Inference, Instance, Outcome, ReadState, Reception, Result, StoredObject, Study, WorkState
from tests.node.arrivals import WAITS, WANTED, close, commit_result, count, finish_inferences, plan, take
from tests.node.bundles import activated
from tests.node.studies import commit_result as commit_document
from tests.node.studies import document
from tests.support.phantoms import write_phantom


@pytest.fixture
def phantom(tmp_path: Path) -> Dataset:
    return write_phantom(tmp_path / "a.dcm", rows=300, columns=300)


def test_a_selected_image_is_queued_once_however_often_it_comes(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    answers = [take(desk, store, tmp_path / "a.dcm") for _ in range(3)]
    assert answers == [Answer.KEPT, Answer.DUPLICATE, Answer.DUPLICATE]
    assert [count(ledger, table) for table in (Study, Instance, Reception, Inference)] == [1, 1, 1, 1]
    assert not list(store.incoming.iterdir())


def test_a_duplicate_heals_a_lost_file(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    (sha256,) = list(store)
    store.path(sha256).unlink()
    assert reconcile(ledger, store, desk).missing == [phantom.SOPInstanceUID]
    take(desk, store, tmp_path / "a.dcm")
    assert list(store) == [sha256]
    assert reconcile(ledger, store, desk).missing == []


def test_back_to_an_earlier_header_is_a_change_again(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    def rename(dataset: Dataset) -> None:
        dataset.PatientName = "Other"

    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "a.dcm", rename)
    take(desk, store, tmp_path / "a.dcm")
    with ledger.read() as session:
        outcomes = list(session.scalars(select(Reception.outcome).order_by(Reception.id)))
    assert outcomes == [Outcome.NEW, Outcome.HEADER_CHANGED, Outcome.HEADER_CHANGED]
    assert count(ledger, Inference) == 1


def test_changed_pixels_are_analysed_again(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    def change(dataset: Dataset) -> None:
        dataset.PixelData = dataset.PixelData[:-2] + b"\1\0"

    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "a.dcm", change)
    assert count(ledger, Inference) == 2


def test_our_own_result_coming_back_is_never_input(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm", lambda dataset: setattr(dataset, "Manufacturer", MANUFACTURER))
    with ledger.read() as session:
        assert session.scalars(select(Instance.route_reason)).one() == "own_object"
        assert session.scalars(select(Study.result_due_at)).one() is None
    assert count(ledger, Inference) == 0


def test_a_file_without_row_is_recorded_at_the_next_start_and_other_objects_are_left_alone(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    store.put((tmp_path / "a.dcm").read_bytes())
    output = store.put(b"a model output of a lost commit")
    assert reconcile(ledger, store, desk).recorded == 1
    assert reconcile(ledger, store, desk).recorded == 0
    assert count(ledger, Inference) == 1
    assert output in set(store)


def test_a_result_waits_for_the_study_and_for_its_images(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    assert plan(ledger) == 0  # not yet computed
    finish_inferences(ledger)
    assert plan(ledger) == 1
    assert plan(ledger) == 0  # nothing has changed since
    with ledger.read() as session:
        objects = session.scalars(select(StoredObject)).all()
    assert sorted(each.kind for each in objects) == [ResultObject.REPORT, ResultObject.SEGMENTATION]
    assert len({each.series_instance_uid for each in objects}) == 2


def test_versions_are_planned_one_after_the_other_and_know_their_predecessor(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    finish_inferences(ledger)
    plan(ledger)
    take(desk, store, tmp_path / "a.dcm", lambda dataset: setattr(dataset, "PatientName", "Other"))
    assert plan(ledger) == 0  # version 1 is still being made
    commit_result(ledger)
    assert plan(ledger) == 1
    with ledger.read() as session:
        first, second = session.scalars(select(Result).order_by(Result.version)).all()
    assert (second.version, second.predecessor_id) == (2, first.id)


def test_a_study_whose_every_image_failed_gets_no_result(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    finish_inferences(ledger, WorkState.FAILED)
    assert plan(ledger) == 0
    with ledger.read() as session:
        assert session.scalars(select(Study.result_due_at)).one() is None


def test_the_same_pixels_under_two_instances_are_computed_once(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    def copy(dataset: Dataset) -> None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")

    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "a.dcm", copy)
    assert (count(ledger, Instance), count(ledger, Inference)) == (2, 1)


def test_a_replaced_bundle_takes_over_what_is_pending(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    close(ledger)
    other = activated(ledger, version="2")
    with ledger.read() as session:
        assert session.scalars(select(Inference.bundle_digest)).all() == [other]
    assert plan(ledger) == 0
    finish_inferences(ledger)
    assert plan(ledger) == 1


def test_studies_that_wait_do_not_hide_one_that_is_ready(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    write_phantom(tmp_path / "b.dcm", seed=2, rows=300, columns=300)
    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "b.dcm")
    newest = select(func.max(Inference.id)).scalar_subquery()
    ledger.write(
        lambda session: session.execute(update(Inference).where(Inference.id == newest).values(state=WorkState.DONE))
    )
    close(ledger)
    assert ledger.write(lambda session: plan_results(session, active_bundles(session), WANTED, WAITS, limit=1)) == 1


def test_a_correction_that_leaves_no_image_withdraws_the_result(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    finish_inferences(ledger)
    plan(ledger)
    commit_result(ledger)
    ledger.write(lambda session: session.execute(update(Study).values(urgency="immediate", malpositioned_tube=True)))
    take(desk, store, tmp_path / "a.dcm", lambda dataset: setattr(dataset, "ViewPosition", "LL"))
    assert plan(ledger) == 0
    with ledger.read() as session:
        study = session.scalars(select(Study)).one()
        assert (study.urgency, study.malpositioned_tube) == ("routine", None)
        assert session.scalars(select(Result.current)).all() == [False]


def test_an_orphan_that_was_refused_does_not_come_back_over_a_later_version(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    dataset = dcmread(tmp_path / "a.dcm")
    dataset.PatientName = "Refused"
    with BytesIO() as stream:
        dataset.save_as(stream)
        store.put(stream.getvalue())
    take(desk, store, tmp_path / "a.dcm")
    assert reconcile(ledger, store, desk).recorded == 0
    assert count(ledger, Reception) == 1


def test_the_same_data_set_in_another_file_heals_a_lost_one(
    ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, phantom: Dataset, tmp_path: Path
) -> None:
    take(desk, store, tmp_path / "a.dcm")
    (lost,) = list(store)
    store.path(lost).unlink()
    dataset = dcmread(tmp_path / "a.dcm")
    dataset.file_meta.ImplementationVersionName = "OTHER"
    arrived = store.incoming / "arrived.dcm"
    dataset.save_as(arrived)
    desk.take(read_received(arrived), "TEST", monotonic())
    (found,) = list(store)
    assert found != lost
    with ledger.read() as session:
        assert session.scalars(select(Instance.file_sha256)).one() == found
        assert session.scalars(select(Inference.file_sha256)).one() == found


def now_dated(dataset: Dataset) -> None:
    dataset.StudyDate, dataset.StudyTime = datetime.now().strftime("%Y%m%d %H%M%S").split()


def test_a_new_study_waits_for_its_reader_and_an_old_one_is_analysed_last_and_never_listed(
    desk: ReceptionDesk, store: FolderObjectStore, ledger: Ledger, phantom: Dataset, tmp_path: Path
) -> None:
    old = phantom
    take(desk, store, tmp_path / "a.dcm")  # dated long ago
    new = write_phantom(tmp_path / "b.dcm", seed=2, rows=300, columns=300, change=now_dated)
    take(desk, store, tmp_path / "b.dcm")
    with ledger.read() as session:
        studies = {each.study_instance_uid: each for each in session.scalars(select(Study))}
        priorities = [each.priority for each in session.scalars(select(Inference).order_by(Inference.id))]
    assert studies[old.StudyInstanceUID].waiting_since is None
    assert studies[new.StudyInstanceUID].due_at is not None
    assert priorities[0] > priorities[1]


def test_what_may_be_a_chest_radiograph_is_listed_although_it_is_not_analysed(
    desk: ReceptionDesk, store: FolderObjectStore, ledger: Ledger, tmp_path: Path
) -> None:
    def child(dataset: Dataset) -> None:
        now_dated(dataset)
        dataset.PatientAge = "004Y"
        del dataset.PatientBirthDate

    def hand(dataset: Dataset) -> None:
        now_dated(dataset)
        dataset.BodyPartExamined = "HAND"

    for name, change, listed in (("child", child, True), ("hand", hand, False)):
        header = write_phantom(tmp_path / f"{name}.dcm", rows=300, columns=300, change=change)
        take(desk, store, tmp_path / f"{name}.dcm")
        with ledger.read() as session:
            study = session.scalars(select(Study).where(Study.study_instance_uid == header.StudyInstanceUID)).one()
            assert (study.due_at is not None) is listed
            assert session.scalars(select(Inference)).all() == []


def test_a_new_image_of_a_study_that_was_read_brings_it_back_and_a_corrected_name_does_not(
    desk: ReceptionDesk, store: FolderObjectStore, ledger: Ledger, tmp_path: Path
) -> None:
    first = write_phantom(tmp_path / "a.dcm", rows=300, columns=300, change=now_dated)
    take(desk, store, tmp_path / "a.dcm")
    ledger.write(lambda session: mark(session, [first.StudyInstanceUID], ReadState.READ, "x", WAITS))

    def corrected(dataset: Dataset) -> None:
        dataset.PatientName = "Corrected^Name"

    take(desk, store, tmp_path / "a.dcm", corrected)
    with ledger.read() as session:
        study = session.scalars(select(Study)).one()
    assert (study.patient_name, study.read_state, study.due_at) == ("Corrected^Name", "read", None)
    assert study.search_text.startswith("corrected name")
    write_phantom(tmp_path / "b.dcm", seed=3, rows=300, columns=300, study=first, change=now_dated)
    take(desk, store, tmp_path / "b.dcm")
    with ledger.read() as session:
        study = session.scalars(select(Study)).one()
    assert study.read_state == "new"
    assert study.due_at is not None
    assert "new image" in study.reopened_reason


def test_a_flag_that_is_committed_while_another_object_comes_keeps_its_place(
    desk: ReceptionDesk,
    store: FolderObjectStore,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = write_phantom(tmp_path / "a.dcm", rows=300, columns=300, change=now_dated)
    take(desk, store, tmp_path / "a.dcm")
    write_phantom(tmp_path / "b.dcm", seed=3, rows=300, columns=300, study=first, change=now_dated)
    flagged = document(first.StudyInstanceUID, TubePosition.ABNORMAL, set())
    worker = threading.Thread(target=commit_document, args=(Ledger(ledger.url), flagged))

    def describe_slowly(study: Study, header: Dataset) -> None:
        # The study has been read; now the result wants to be committed.
        worker.start()
        worker.join(0.5)
        describe(study, header)

    monkeypatch.setattr("node.intake.recording.describe", describe_slowly)
    take(desk, store, tmp_path / "b.dcm")
    worker.join()
    with ledger.read() as session:
        study = session.scalars(select(Study)).one()
    assert (study.urgency, study.malpositioned_tube) == ("immediate", True)
    assert study.waiting_since is not None
    assert study.due_at == pytest.approx(study.waiting_since + 15 * 60, abs=0.01)


def test_a_corrected_header_puts_a_study_on_the_list(
    desk: ReceptionDesk, store: FolderObjectStore, ledger: Ledger, tmp_path: Path
) -> None:
    def abdomen(dataset: Dataset) -> None:
        now_dated(dataset)
        dataset.BodyPartExamined = "ABDOMEN"

    write_phantom(tmp_path / "a.dcm", rows=300, columns=300, change=abdomen)
    take(desk, store, tmp_path / "a.dcm")
    write_phantom(tmp_path / "b.dcm", seed=2, rows=300, columns=300)  # dated long ago: its modality's clock was wrong
    take(desk, store, tmp_path / "b.dcm")
    with ledger.read() as session:
        assert [study.due_at for study in session.scalars(select(Study))] == [None, None]
    take(desk, store, tmp_path / "a.dcm", lambda dataset: setattr(dataset, "BodyPartExamined", "CHEST"))
    take(desk, store, tmp_path / "b.dcm", now_dated)
    with ledger.read() as session:
        assert all(study.due_at for study in session.scalars(select(Study)))


def test_what_an_object_leaves_out_takes_nothing_away_from_the_study(
    desk: ReceptionDesk, store: FolderObjectStore, ledger: Ledger, tmp_path: Path
) -> None:
    def stat(dataset: Dataset) -> None:
        now_dated(dataset)
        dataset.PatientName = "Known^Name"
        dataset.RequestedProcedurePriority = "STAT"

    def silent_lateral(dataset: Dataset) -> None:
        now_dated(dataset)
        dataset.PatientName = ""
        dataset.ViewPosition = "LL"

    first = write_phantom(tmp_path / "a.dcm", rows=300, columns=300, change=stat)
    take(desk, store, tmp_path / "a.dcm")
    write_phantom(tmp_path / "b.dcm", seed=2, rows=300, columns=300, study=first, change=silent_lateral)
    take(desk, store, tmp_path / "b.dcm")
    with ledger.read() as session:
        study = session.scalars(select(Study)).one()
    assert (study.patient_name, study.order_priority, study.urgency) == ("Known^Name", "stat", "urgent")

    def routine_after_all(dataset: Dataset) -> None:
        stat(dataset)
        dataset.RequestedProcedurePriority = "ROUTINE"

    take(desk, store, tmp_path / "a.dcm", routine_after_all)
    with ledger.read() as session:
        study = session.scalars(select(Study)).one()
    assert (study.order_priority, study.urgency) == ("routine", "routine")
