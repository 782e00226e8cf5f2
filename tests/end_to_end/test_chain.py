"""The chain through real peers: DCMTK or pynetdicom in, Orthanc out, both modes."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dicomweb_client import DICOMwebClient
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage, SegmentationStorage, generate_uid
from sqlalchemy import select

from node.results.readback import read_back
from schemas.codes import RejectionReason
from schemas.result import StudyResult
from schemas.settings import load_settings
from schemas.tables import Inference, Instance, Outcome, Reception, Result, StoredObject, Study
from tests.support.dicom_tools import dciodvfy_errors, echoscu, storescu
from tests.support.live_node import LiveNode
from tests.support.peers import Orthanc
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for
from tests.support.rejection_notes import write_note


def current_document(live: LiveNode, study_instance_uid: str) -> StudyResult:
    with live.ledger.read() as session:
        query = (
            select(Result.document).join(Study).where(Study.study_instance_uid == study_instance_uid, Result.current)
        )
        return StudyResult.model_validate_json(session.scalars(query).one() or "")


def outcomes(live: LiveNode, sop_instance_uid: str) -> list[str]:
    with live.ledger.read() as session:
        query = select(Reception.outcome).where(Reception.sop_instance_uid == sop_instance_uid).order_by(Reception.id)
        return list(session.scalars(query))


def reports(objects: list[StoredObject]) -> list[StoredObject]:
    return [each for each in objects if each.sop_class_uid == Comprehensive3DSRStorage]


def test_c_echo_answers_the_listed_and_rejects_everybody_else(live: LiveNode) -> None:
    assert echoscu(live.port) == 0
    assert echoscu(live.port, calling="STRANGER") != 0
    assert echoscu(live.port, called="OTHER") != 0


def test_a_study_sent_by_storescu_lies_in_orthanc_as_sr_seg_and_sc(
    live: LiveNode, orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def order(dataset: Dataset) -> None:
        dataset.AccessionNumber = "A1234567"

    sent = write_phantom(tmp_path / "a.dcm", seed=3, tube="malpositioned", change=order)
    assert storescu(live.port, [tmp_path / "a.dcm"]).returncode == 0
    objects = live.wait_delivered(sent.StudyInstanceUID)
    classes = sorted(str(each.sop_class_uid) for each in objects)
    assert classes == sorted([Comprehensive3DSRStorage, SegmentationStorage, SecondaryCaptureImageStorage])

    client = DICOMwebClient(f"{orthanc.url}/dicom-web")
    for each in objects:
        found = client.retrieve_instance(sent.StudyInstanceUID, each.series_instance_uid, each.sop_instance_uid)
        path = tmp_path / f"{each.kind}.dcm"
        found.save_as(path, enforce_file_format=True)
        assert dciodvfy_errors(path) == []
        assert found.PatientID == sent.PatientID
        assert found.AccessionNumber == "A1234567"
        assert found.StudyInstanceUID == sent.StudyInstanceUID
    report = dcmread(tmp_path / "report.dcm")
    referenced = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    segmentation = dcmread(tmp_path / "segmentation.dcm")
    assert {sent.SOPInstanceUID, segmentation.SOPInstanceUID} <= referenced

    monkeypatch.setenv("CHEXNODE_SETTINGS", str(live.settings))
    assert read_back(live.ledger, load_settings(), sent.StudyInstanceUID) == 3
    # The PACS shows the urgency, as string metadata: this Orthanc may be too old for labels.
    study = orthanc.client.studies.lookup(sent.StudyInstanceUID)
    urgency = current_document(live, sent.StudyInstanceUID).urgency
    if orthanc.client.is_orthanc_version_at_least(1, 12, 0):
        assert f"chexnode-{urgency}" in orthanc.client.studies.get_labels(study)
    else:
        assert orthanc.client.studies.get_string_metadata(study, "4242") == urgency


def test_a_second_delivery_of_the_same_instance_is_acknowledged_and_changes_nothing(
    live: LiveNode, tmp_path: Path
) -> None:
    sent = write_phantom(tmp_path / "a.dcm", seed=4)
    (first,) = live.send(tmp_path / "a.dcm")
    live.wait_delivered(sent.StudyInstanceUID)
    (second,) = live.send(tmp_path / "a.dcm")
    assert (first.status, second.status) == (0, 0)
    assert outcomes(live, sent.SOPInstanceUID) == [Outcome.NEW]
    with live.ledger.read() as session:
        study = session.scalars(select(Study).where(Study.study_instance_uid == sent.StudyInstanceUID)).one()
        assert study.result_due_at is None
        assert len(session.scalars(select(Result).where(Result.study_id == study.id)).all()) == 1


def test_a_changed_header_is_issued_again_without_inference_and_names_its_predecessor(
    live: LiveNode, orthanc: Orthanc, tmp_path: Path
) -> None:
    sent = write_phantom(tmp_path / "a.dcm", seed=5)
    live.send(tmp_path / "a.dcm")
    first = live.wait_delivered(sent.StudyInstanceUID)
    dataset = dcmread(tmp_path / "a.dcm")
    dataset.PatientName = "Corrected^Name"
    dataset.save_as(tmp_path / "b.dcm")
    live.send(tmp_path / "b.dcm")
    second = live.wait_delivered(sent.StudyInstanceUID, version=2)
    assert outcomes(live, sent.SOPInstanceUID) == [Outcome.NEW, Outcome.HEADER_CHANGED]
    (old,), (new,) = reports(first), reports(second)
    client = DICOMwebClient(f"{orthanc.url}/dicom-web")
    report = client.retrieve_instance(sent.StudyInstanceUID, new.series_instance_uid, new.sop_instance_uid)
    assert report.PatientName == "Corrected^Name"
    predecessor = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert predecessor.ReferencedSOPInstanceUID == old.sop_instance_uid
    with live.ledger.read() as session:
        versions = session.scalars(
            select(Result).join(Study).where(Study.study_instance_uid == sent.StudyInstanceUID).order_by(Result.version)
        ).all()
        assert [version.current for version in versions] == [False, True]
        inferences = {image.inference_id for version in versions for image in version.images}
    assert len(inferences) == 1


def test_a_late_image_makes_a_second_version_of_one_report_with_both_images(live: LiveNode, tmp_path: Path) -> None:
    first = write_phantom(tmp_path / "a.dcm", seed=6)
    live.send(tmp_path / "a.dcm")
    live.wait_delivered(first.StudyInstanceUID)
    second = write_phantom(tmp_path / "b.dcm", seed=7, study=first)
    live.send(tmp_path / "b.dcm")
    objects = live.wait_delivered(first.StudyInstanceUID, version=2)
    assert len(reports(objects)) == 1
    images = {image.sop_instance_uid for image in current_document(live, first.StudyInstanceUID).images}
    assert images == {first.SOPInstanceUID, second.SOPInstanceUID}


def test_two_images_of_one_association_are_one_report_at_once(live: LiveNode, tmp_path: Path) -> None:
    first = write_phantom(tmp_path / "a.dcm", seed=8)
    write_phantom(tmp_path / "b.dcm", seed=9, study=first)
    live.send(tmp_path / "a.dcm", tmp_path / "b.dcm")
    live.wait_delivered(first.StudyInstanceUID)
    assert len(current_document(live, first.StudyInstanceUID).images) == 2


def test_the_same_instance_under_another_study_is_kept_and_not_used(live: LiveNode, tmp_path: Path) -> None:
    sent = write_phantom(tmp_path / "a.dcm", seed=10)
    live.send(tmp_path / "a.dcm")
    live.wait_delivered(sent.StudyInstanceUID)
    dataset = dcmread(tmp_path / "a.dcm")
    dataset.StudyInstanceUID = generate_uid(prefix=None)
    dataset.save_as(tmp_path / "b.dcm")
    (again,) = live.send(tmp_path / "b.dcm")
    assert again.status == 0
    assert outcomes(live, sent.SOPInstanceUID) == [Outcome.NEW, Outcome.QUARANTINED]
    with live.ledger.read() as session:
        kept = session.scalars(select(Reception).where(Reception.outcome == Outcome.QUARANTINED)).all()
        assert any("series" in each.detail or "study" in each.detail for each in kept)
        assert session.scalar(select(Study).where(Study.study_instance_uid == dataset.StudyInstanceUID)) is None


def test_a_pacs_whose_only_image_was_rejected_gets_a_rejection_note_for_the_results_that_it_has(
    live: LiveNode, orthanc: Orthanc, tmp_path: Path
) -> None:
    sent = write_phantom(tmp_path / "a.dcm", seed=11)
    live.send(tmp_path / "a.dcm")
    delivered = {each.sop_instance_uid for each in live.wait_delivered(sent.StudyInstanceUID)}
    write_note(tmp_path / "note.dcm", [sent], RejectionReason.PATIENT_SAFETY)
    live.send(tmp_path / "note.dcm")
    client = DICOMwebClient(f"{orthanc.url}/dicom-web")

    def arrived() -> list[Dataset]:
        series = client.search_for_series(sent.StudyInstanceUID, search_filters={"Modality": "KO"})
        uids = [Dataset.from_json(each).SeriesInstanceUID for each in series]
        return [each for uid in uids for each in client.retrieve_series(sent.StudyInstanceUID, uid)]

    (note,) = wait_for("a rejection note in Orthanc", arrived) or []
    assert note.ConceptNameCodeSequence[0].CodeValue == RejectionReason.PATIENT_SAFETY
    assert {each.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for each in note.ContentSequence} == delivered
    with live.ledger.read() as session:
        query = select(Result.current).join(Study).where(Study.study_instance_uid == sent.StudyInstanceUID)
        assert session.scalars(query).all() == [False]


def test_a_japanese_patient_name_arrives_whole(live: LiveNode, orthanc: Orthanc, tmp_path: Path) -> None:
    def japanese(dataset: Dataset) -> None:
        dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        dataset.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"

    sent = write_phantom(tmp_path / "a.dcm", seed=11, change=japanese)
    live.send(tmp_path / "a.dcm")
    (report,) = reports(live.wait_delivered(sent.StudyInstanceUID))
    client = DICOMwebClient(f"{orthanc.url}/dicom-web")
    found = client.retrieve_instance(sent.StudyInstanceUID, report.series_instance_uid, report.sop_instance_uid)
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert found.PatientName == "Yamada^Tarou=山田^太郎=やまだ^たろう"


def test_a_study_without_patient_id_is_analysed(live: LiveNode, tmp_path: Path) -> None:
    def nameless(dataset: Dataset) -> None:
        del dataset.PatientID

    sent = write_phantom(tmp_path / "a.dcm", seed=12, change=nameless)
    live.send(tmp_path / "a.dcm")
    assert live.wait_delivered(sent.StudyInstanceUID)


def lateral(dataset: Dataset) -> None:
    dataset.ViewPosition = "LL"
    dataset.pop("ViewCodeSequence", None)


def hand(dataset: Dataset) -> None:
    dataset.BodyPartExamined = "HAND"
    dataset.pop("AnatomicRegionSequence", None)


def tiny(dataset: Dataset) -> None:
    dataset.Rows = dataset.Columns = 32
    dataset.PixelData = dataset.PixelData[: 32 * 32 * 2]


def colour(dataset: Dataset) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.PixelData = dataset.PixelData * 3


def child(dataset: Dataset) -> None:
    dataset.PatientAge = "007Y"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lateral, "lateral"),
        (hand, "other_body_part"),
        (tiny, "too_small"),
        (colour, "colour"),
        (child, "outside_population"),
    ],
)
def test_what_is_no_frontal_chest_of_an_adult_is_kept_and_set_aside_with_its_reason(
    live: LiveNode, tmp_path: Path, change: Callable[[Dataset], None], reason: str
) -> None:
    sent = write_phantom(tmp_path / "a.dcm", seed=13, change=change)
    (status,) = live.send(tmp_path / "a.dcm")
    assert status.status == 0
    with live.ledger.read() as session:
        instance = session.scalars(select(Instance).where(Instance.sop_instance_uid == sent.SOPInstanceUID)).one()
        assert (instance.selected, instance.route_reason) == (False, reason)
        assert instance.route_explanation
        kept = live.home / "objects" / instance.file_sha256[:2] / instance.file_sha256[2:4] / instance.file_sha256
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == instance.file_sha256


def test_a_broken_pixel_stream_ends_in_a_recorded_failure_and_stops_nothing(live: LiveNode, tmp_path: Path) -> None:
    def torn(dataset: Dataset) -> None:
        dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]

    broken = write_phantom(tmp_path / "a.dcm", seed=14, change=torn)
    good = write_phantom(tmp_path / "b.dcm", seed=15)
    assert [each.status for each in live.send(tmp_path / "a.dcm", tmp_path / "b.dcm")] == [0, 0]
    assert live.wait_delivered(good.StudyInstanceUID)

    def error() -> str:
        with live.ledger.read() as session:
            query = select(Inference.error).join(Instance, Instance.pixel_digest == Inference.pixel_digest)
            return session.scalar(query.where(Instance.sop_instance_uid == broken.SOPInstanceUID)) or ""

    assert "pixel data" in wait_for("the failure is recorded", error).lower()


def test_a_data_set_that_is_not_what_the_request_says_is_refused(live: LiveNode, tmp_path: Path) -> None:
    write_phantom(tmp_path / "a.dcm", seed=16)
    dataset = dcmread(tmp_path / "a.dcm")
    del dataset.StudyInstanceUID
    dataset.save_as(tmp_path / "a.dcm")
    (status,) = live.send(tmp_path / "a.dcm")
    assert status.status == 0xA900
    assert "StudyInstanceUID" in status.comment


def test_the_administrator_sees_what_did_not_get_through_and_why(live: LiveNode, tmp_path: Path) -> None:
    sent = write_phantom(tmp_path / "a.dcm", seed=17, change=lateral)
    live.send(tmp_path / "a.dcm")
    command = [sys.executable, "-m", "schemas.command_line", "--settings", str(live.settings), "db", "status"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "300"})
    assert run.returncode == 0, run.stderr
    (line,) = [line for line in run.stdout.splitlines() if sent.SOPInstanceUID in line]
    assert "set aside" in line and "lateral" in line
