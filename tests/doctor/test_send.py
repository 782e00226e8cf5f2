"""`chexnode send` says of each file what became of it and what to do, to people and to scripts."""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import AE, evt

from node.network.association import NoAssociation, NoAssociationError
from node.network.send import SendVerdict, send_files
from node.network.store_status import explain
from tests.doctor.examining import port_that_hangs_up
from tests.end_to_end.test_commands import run_chexnode
from tests.support.processes import free_port

Serve = Callable[..., int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts storage peers called PEER that answer with the status that a file's Patient ID asks for (hex)."""
    servers: list[Any] = []

    def start(
        classes: Sequence[UID] = (SecondaryCaptureImageStorage,),
        syntaxes: Sequence[UID] = (ExplicitVRLittleEndian,),
        **required: Any,
    ) -> int:
        entity = AE(ae_title="PEER")
        for each in classes:
            entity.add_supported_context(each, list(syntaxes))
        for name, value in required.items():
            setattr(entity, name, value)
        port = free_port()
        servers.append(entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)]))
        return port

    def answer(event: Any) -> Dataset:
        status = Dataset()
        status.Status = int(event.dataset.PatientID, 16)
        if status.Status:
            status.ErrorComment = "as was asked for"
        return status

    yield start
    for server in servers:
        server.shutdown()


def write(
    folder: Path,
    status: int = 0,
    sop_class: UID = SecondaryCaptureImageStorage,
    syntax: UID = ExplicitVRLittleEndian,
) -> Path:
    """A file that the peer answers with `status`."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = generate_uid(prefix=None)
    dataset.PatientID = f"{status:04X}"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = syntax
    path = folder / f"{status:04X}-{dataset.SOPInstanceUID[-8:]}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def send(port: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_chexnode("send", "--to", f"PEER@127.0.0.1:{port}", "--as", "SENDER", *arguments)


@pytest.mark.parametrize(
    ("status", "verdict", "words", "to_do"),
    [
        (0x0000, SendVerdict.ACCEPTED, "stored", ""),
        (0xB000, SendVerdict.ACCEPTED, "coerced", "Nothing is lost"),
        (0xB007, SendVerdict.ACCEPTED, "does not fit its SOP class", "Nothing is lost"),
        (0xA700, SendVerdict.REFUSED, "out of resources", "Free space on the peer's disk"),
        (0xA900, SendVerdict.REFUSED, "not what the request says", "exported again"),
        (0xC123, SendVerdict.REFUSED, "cannot read it", "Check the file"),
        (0x0122, SendVerdict.REFUSED, "does not store objects of this SOP class", "Enable the SOP class"),
        (0x0124, SendVerdict.REFUSED, "not authorised", "calling AE title allowed"),
        (0x0110, SendVerdict.REFUSED, "processing failed", "peer's log"),
        (0xFF42, SendVerdict.REFUSED, "refused", "none of C-STORE's"),
    ],
)
def test_each_class_of_status_has_its_words(
    tmp_path: Path, serve: Serve, status: int, verdict: SendVerdict, words: str, to_do: str
) -> None:
    (sent,) = send_files([write(tmp_path, status)], "127.0.0.1", serve(), "PEER", "SENDER")
    assert (sent.status, sent.verdict) == (status, verdict)
    assert words in sent.meaning and to_do in sent.to_do
    assert bool(sent.to_do) == (status != 0)
    assert explain(status).words == sent.meaning


def test_the_command_gives_verdicts_advice_and_a_summary(tmp_path: Path, serve: Serve) -> None:
    port = serve()
    good = [write(tmp_path), write(tmp_path)]
    assert send(port, *good).returncode == 0
    (tmp_path / "notes.txt").write_text("no DICOM")
    bad = [write(tmp_path, 0xA701), write(tmp_path, 0xA702), tmp_path / "notes.txt"]
    run = send(port, *good, *bad)
    assert run.returncode == 1
    assert "0xA701" in run.stdout and "out of resources: as was asked for" in run.stdout
    assert "2 accepted, 2 refused, 1 not sent of 5" in run.stdout
    advice = run.stdout.partition("What to do")[2]
    assert advice.count("Free space on the peer's disk") == 1 and "2 files" in advice
    assert "no DICOM Part 10 file" in run.stdout

    document = json.loads(send(port, "--json", *good, *bad).stdout)
    assert (document["accepted"], document["refused"], document["not_sent"]) == (2, 2, 1)
    assert [each["status"] for each in document["files"]] == ["0x0000", "0x0000", "0xA701", "0xA702", None]
    assert document["files"][2]["verdict"] == "refused" and "Free space" in document["files"][2]["to_do"]


@pytest.mark.parametrize(
    ("required", "reason", "found", "to_do"),
    [
        (
            {"require_calling_aet": ["OTHER"]},
            NoAssociation.CALLING_AE_TITLE,
            "rejects calling AE title SENDER",
            "Add SENDER to the AE titles",
        ),
        (
            {"require_called_aet": True, "ae_title": "OTHER"},
            NoAssociation.CALLED_AE_TITLE,
            "rejects called AE title PEER",
            "dicom.ae_title",
        ),
        (
            {"syntaxes": [JPEG2000Lossless]},
            NoAssociation.NO_CONTEXT,
            "accepts none of the presentation contexts",
            "Enable these SOP classes",
        ),
    ],
)
def test_a_refused_association_says_which_name_is_wrong(
    tmp_path: Path, serve: Serve, required: dict[str, Any], reason: NoAssociation, found: str, to_do: str
) -> None:
    run = send(serve(**required), "--json", write(tmp_path))
    assert run.returncode == 2
    document = json.loads(run.stdout)
    assert document["reason"] == reason
    assert found in document["error"] and to_do in document["to_do"]
    assert found in run.stderr and "What to do: " in run.stderr and "Traceback" not in run.stderr


def test_nobody_there_and_nobody_who_answers_are_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path)
    run = send(free_port(), path)
    assert run.returncode == 2
    assert "the connection is refused" in run.stderr and "firewall" in run.stderr
    with port_that_hangs_up() as port, pytest.raises(NoAssociationError, match="does not answer as a DICOM node"):
        send_files([path], "127.0.0.1", port, "PEER", "SENDER")


def test_nothing_to_send_is_a_status_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    for named in (tmp_path, tmp_path / "notes.txt"):
        run = send(free_port(), named)
        assert run.returncode == 2, run.stdout + run.stderr
        assert "Part 10 files" in run.stdout + run.stderr


def test_a_file_whose_transfer_syntax_is_not_taken_stops_no_other(tmp_path: Path, serve: Serve) -> None:
    compressed = write(tmp_path, syntax=JPEG2000Lossless)
    radiograph = write(tmp_path, sop_class=ComputedRadiographyImageStorage)
    good = write(tmp_path)
    first, second, third = send_files([compressed, radiograph, good], "127.0.0.1", serve(), "PEER", "SENDER")
    assert first.verdict == second.verdict == SendVerdict.NOT_SENT and third.accepted
    assert "does not accept Secondary Capture Image Storage in JPEG 2000" in first.comment
    assert "does not accept Computed Radiography Image Storage" in second.comment
    assert "convert the file" in first.to_do


def test_more_kinds_than_one_association_holds_go_over_several(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.network.send._CONTEXTS", 2)
    classes = (SecondaryCaptureImageStorage, ComputedRadiographyImageStorage, MRImageStorage)
    paths = [write(tmp_path, sop_class=each) for each in classes]
    sent = send_files(paths, "127.0.0.1", serve(classes), "PEER", "SENDER")
    assert [each.path for each in sent] == paths
    assert all(each.accepted for each in sent)


def test_a_file_that_cannot_be_sent_stops_no_other(tmp_path: Path, serve: Serve) -> None:
    nameless, good = write(tmp_path), write(tmp_path)
    dataset = dcmread(nameless)
    del dataset.SOPInstanceUID
    dataset.save_as(nameless)
    first, second = send_files([nameless, good], "127.0.0.1", serve(), "PEER", "SENDER")
    assert first.verdict == SendVerdict.NOT_SENT
    assert "SOPInstanceUID" in first.comment and "Check the file" in first.to_do
    assert second.accepted
