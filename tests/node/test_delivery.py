"""Delivery: the destination's own answer decides; a dead one is tried again, and a report never overtakes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.delivery.folder import FolderSender
from node.delivery.orthanc import OrthancSender
from node.delivery.parcel import Parcel
from node.delivery.stow import check_stored
from node.delivery.worker import RANK, Deliverer
from node.ledger.ledger import Ledger, now
from node.storage.object_store import FolderObjectStore
from schemas.errors import DeliveryError, DeliveryRefusedError
from schemas.settings import FolderDestination, OrthancDestination, ResultObject, Settings, WorkSettings
from schemas.tables import Delivery, Result, StoredObject, Study, WorkState
from tests.support.peers import Orthanc
from tests.support.phantoms import write_phantom
from tests.support.processes import free_port, wait_for


@pytest.fixture
def parcel(tmp_path: Path) -> Parcel:
    sent = write_phantom(tmp_path / "parcel.dcm", rows=300, columns=300)
    return make_parcel(tmp_path / "parcel.dcm", sent)


def make_parcel(path: Path, header: Dataset, urgency: str | None = None) -> Parcel:
    return Parcel(
        path.read_bytes(),
        header.SOPClassUID,
        header.SOPInstanceUID,
        header.SeriesInstanceUID,
        header.StudyInstanceUID,
        urgency,
    )


def destination(orthanc: Orthanc, **changes: str) -> OrthancDestination:
    return OrthancDestination.model_validate({"name": "pacs", "url": orthanc.url, **changes})


def test_orthanc_holds_the_very_bytes_and_shows_the_urgency(orthanc: Orthanc, parcel: Parcel) -> None:
    answer = OrthancSender(destination(orthanc)).send(replace(parcel, urgency="immediate"))
    assert "stored by STOW-RS" in answer and "immediate" in answer
    (orthanc_id,) = orthanc.client.lookup(parcel.sop_instance_uid)
    assert orthanc.client.instances.get_file(orthanc_id) == parcel.content
    # The same again is as good as the first time.
    assert "stored" in OrthancSender(destination(orthanc)).send(parcel)


def test_without_stow_rs_the_object_is_uploaded(orthanc: Orthanc, parcel: Parcel) -> None:
    answer = OrthancSender(destination(orthanc, dicomweb_root="nothing-here")).send(parcel)
    assert "uploaded" in answer
    found = DICOMwebClient(f"{orthanc.url}/dicom-web").search_for_instances(parcel.study_instance_uid)
    assert len(found) == 1


def answer(sequence: str, uid: str, **values: int) -> Dataset:
    """A Store Instances Response (PS3.18 annex I.2) about one instance."""
    item = Dataset()
    item.ReferencedSOPInstanceUID = uid
    for keyword, value in values.items():
        setattr(item, keyword, value)
    dataset = Dataset()
    setattr(dataset, sequence, [item])
    return dataset


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (0xA700, DeliveryError),  # out of resources: later
        (0x0110, DeliveryError),
        (0xA900, DeliveryRefusedError),  # does not match its SOP class
        (0xC123, DeliveryRefusedError),  # cannot understand
        (0x0122, DeliveryRefusedError),  # SOP class not supported
    ],
)
def test_a_failure_reason_decides_whether_another_try_can_help(
    parcel: Parcel, reason: int, error: type[Exception]
) -> None:
    failed = answer("FailedSOPSequence", parcel.sop_instance_uid, FailureReason=reason)
    with pytest.raises(error, match=f"0x{reason:04X}"):
        check_stored(failed, parcel)


def test_only_this_very_object_counts_as_stored(parcel: Parcel) -> None:
    assert check_stored(answer("ReferencedSOPSequence", parcel.sop_instance_uid), parcel) == "stored by STOW-RS"
    coerced = answer("ReferencedSOPSequence", parcel.sop_instance_uid, WarningReason=0xB000)
    assert "0xB000" in check_stored(coerced, parcel)
    with pytest.raises(DeliveryError, match="did not say"):
        check_stored(answer("ReferencedSOPSequence", "1.2.3"), parcel)


def test_nobody_there_is_worth_another_try(parcel: Parcel) -> None:
    nobody = OrthancDestination(name="pacs", url=f"http://127.0.0.1:{free_port()}", timeout_seconds=2)
    with pytest.raises(DeliveryError) as error:
        OrthancSender(nobody).send(parcel)
    assert error.value.retryable


def test_a_folder_gets_whole_files(tmp_path: Path, parcel: Parcel) -> None:
    FolderSender(FolderDestination(name="out", path=tmp_path / "out")).send(parcel)
    (path,) = [each for each in (tmp_path / "out").rglob("*") if each.is_file()]
    assert path.name == f"{parcel.sop_instance_uid}.dcm"
    assert path.read_bytes() == parcel.content


@pytest.fixture
def dead_then_alive(tmp_path: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path / "own-orthanc")
    server.stop()
    yield server
    server.stop()


def test_a_dead_destination_is_tried_again_and_delays_no_other_and_the_report_comes_last(
    ledger: Ledger, tmp_path: Path, dead_then_alive: Orthanc
) -> None:
    store = FolderObjectStore(tmp_path / "objects")
    settings = Settings(
        work=WorkSettings(backoff_seconds=0.1, backoff_maximum_seconds=0.3),
        destinations=[destination(dead_then_alive), FolderDestination(name="out", path=tmp_path / "out")],
    )
    first = write_phantom(tmp_path / "segmentation.dcm", rows=300, columns=300)
    second = write_phantom(tmp_path / "report.dcm", study=first, rows=300, columns=300)
    kinds = {ResultObject.SEGMENTATION: first, ResultObject.REPORT: second}

    def change(session: Session) -> None:
        study = Study(
            study_instance_uid=first.StudyInstanceUID, first_received_at=now(), last_received_at=now(), changed_at=now()
        )
        result = Result(
            study=study,
            bundle_digest="b",
            bundle_name="b",
            version=1,
            state=WorkState.DONE,
            due_at=now(),
            created_at=now(),
        )
        result.urgency = "soon"
        session.add(result)
        session.flush()
        for kind, header in reversed(kinds.items()):  # the report's row first: rank decides, not age
            stored = StoredObject(
                result_id=result.id,
                kind=kind,
                sop_class_uid=header.SOPClassUID,
                sop_instance_uid=header.SOPInstanceUID,
                series_instance_uid=generate_uid(prefix=None),
                sha256=store.put((tmp_path / f"{kind}.dcm").read_bytes()),
            )
            session.add(stored)
            session.flush()
            for each in settings.destinations:
                session.add(
                    Delivery(
                        object_id=stored.id,
                        result_id=result.id,
                        destination=each.name,
                        rank=RANK[kind],
                        due_at=now(),
                        created_at=now(),
                    )
                )

    ledger.write(change)
    deliverers = [Deliverer(ledger, store, settings, each) for each in settings.destinations]

    def rows(name: str) -> list[Delivery]:
        for each in deliverers:
            each.deliver_due()
        with ledger.read() as session:
            query = select(Delivery).where(Delivery.destination == name).order_by(Delivery.rank)
            return list(session.scalars(query))

    assert [each.state for each in rows("out")] == [WorkState.DONE, WorkState.DONE]
    wait_for("the segmentation was tried twice", lambda: rows("pacs")[0].attempts >= 2)
    segmentation, report = rows("pacs")
    assert segmentation.state == WorkState.DUE and segmentation.error
    assert report.attempts == 0
    dead_then_alive.start()
    wait_for("both are delivered", lambda: all(each.state == WorkState.DONE for each in rows("pacs")))
    segmentation, report = rows("pacs")
    assert (segmentation.finished_at or 0) <= (report.started_at or 0)
