"""What the doctor says of destinations: real Orthancs in good and in bad order, dead peers, folders."""

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid

from node.doctor.trial_object import as_parcel, trial_dataset
from node.doctor.verdict import Status
from node.network.association import TimeLimits
from schemas.settings import Destination, FolderDestination, OrthancDestination, Settings
from tests.doctor.examining import ConfiguredOrthanc, examine, orthanc, silent_port, states
from tests.support.dicom_tools import dciodvfy_errors
from tests.support.processes import free_port

_EVERY_CHECK = ("rest", "qido", "stow", "find", "dicom-echo", "dicom-store", "delete")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredOrthanc]:
    """An Orthanc that asks for a password, and that lets in known AE titles only."""
    folder = tmp_path_factory.mktemp("guarded")
    with orthanc(
        folder,
        AuthenticationEnabled=True,
        RegisteredUsers={"chexnode": "geheim"},
        DicomAlwaysAllowEcho=False,
        DicomAlwaysAllowStore=False,
        DicomModalities={"known": {"AET": "KNOWN", "Host": "127.0.0.1", "Port": 104}},
    ) as server:
        yield server


def look(bare: Settings, *destinations: Destination, store: bool = True, ae_title: str = "CHEXNODE") -> dict[str, Any]:
    """Verdicts of the destinations' checks, without "destination." in their names."""
    settings = bare.model_copy(update={"destinations": list(destinations)})
    settings.dicom.ae_title = ae_title
    found = examine(settings, "destination", store=store)
    return {name.removeprefix("destination."): verdict for name, verdict in found.items()}


def test_an_orthanc_in_order_keeps_nothing(bare: Settings, tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc") as server:
        verdicts = look(bare, server.destination())
        assert states(verdicts) == {f"pacs.{check}": Status.OK for check in _EVERY_CHECK}
        assert "stored by STOW-RS" in verdicts["pacs.stow"].found
        assert "found by QIDO-RS" in verdicts["pacs.find"].found
        assert "2 test objects were deleted again, and are gone" in verdicts["pacs.delete"].found
        assert server.objects() == []

        careful = look(bare, server.destination(), store=False)
        assert careful["pacs.stow"].status == Status.SKIPPED
        assert set(careful) == {f"pacs.{check}" for check in ("rest", "qido", "stow", "dicom-echo")}


@pytest.mark.parametrize(
    ("values", "who"),
    [({}, "a request without a user"), ({"username": "chexnode", "password": "falsch"}, "user chexnode")],
)
def test_refused_credentials_are_said_so(
    bare: Settings, guarded: ConfiguredOrthanc, values: dict[str, str], who: str
) -> None:
    verdicts = look(bare, guarded.destination(**values))
    assert set(verdicts) == {"pacs.rest"}
    assert verdicts["pacs.rest"].status == Status.FAILED
    assert f"refuses {who} (HTTP 401)" in verdicts["pacs.rest"].found
    assert "Set username and password of destination pacs" in verdicts["pacs.rest"].to_do
    assert "falsch" not in str(verdicts)


def test_an_orthanc_that_does_not_know_our_ae_title_still_gets_results(
    bare: Settings, guarded: ConfiguredOrthanc
) -> None:
    destination = guarded.destination(username="chexnode", password="geheim")
    verdicts = look(bare, destination)
    stranger = verdicts["pacs.dicom-echo"]
    assert stranger.status == Status.WARNING
    assert "rejects calling AE title CHEXNODE" in stranger.found and "STOW-RS" in stranger.found
    assert "Add CHEXNODE to Orthanc's DicomModalities" in stranger.to_do
    assert verdicts["pacs.delete"].status == Status.OK and "1 test object was deleted" in verdicts["pacs.delete"].found
    known = look(bare, destination, ae_title="KNOWN")
    assert set(states(known).values()) == {Status.OK}
    assert "geheim" not in str(verdicts) + str(known)


def test_without_the_dicomweb_plugin_results_are_uploaded_and_that_is_said(bare: Settings, tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc", Plugins=[], DicomServerEnabled=False) as server:
        verdicts = look(bare, server.destination())
        assert verdicts["pacs.qido"].status == Status.WARNING
        assert "no DICOMweb" in verdicts["pacs.qido"].found and "DICOMweb plugin" in verdicts["pacs.qido"].to_do
        assert "uploaded as Orthanc instance" in verdicts["pacs.stow"].found
        assert "found by REST" in verdicts["pacs.find"].found
        assert verdicts["pacs.dicom-echo"].status == Status.SKIPPED
        assert "no DICOM server" in verdicts["pacs.dicom-echo"].found
        assert verdicts["pacs.delete"].status == Status.OK
        assert server.objects() == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not answer within a second is given up."""
    monkeypatch.setattr("node.doctor.receiver.LIMITS", TimeLimits(1.0, 1.0, 1.0))


@pytest.mark.usefixtures("impatient")
def test_a_test_object_that_may_not_be_deleted_is_named(bare: Settings, tmp_path: Path) -> None:
    script = tmp_path / "no-delete.lua"
    script.write_text(
        "function IncomingHttpRequestFilter(method, uri, ip, username, headers) return method ~= 'DELETE' end"
    )
    with silent_port() as silent:
        options = {"LuaScripts": [str(script)], "DicomServerEnabled": False, "DicomPort": silent}
        with orthanc(tmp_path / "orthanc", **options) as server:
            verdicts = look(bare, server.destination())
            (left,) = server.objects()
    kept = verdicts["pacs.delete"]
    assert left and kept.status == Status.WARNING
    assert "SOP Instance UID 2.25." in kept.found and "403" in kept.found
    assert "Delete the study 2.25." in kept.to_do and "CHEXNODE-DOCTOR" in kept.to_do
    # A DICOM port that never answers holds nothing up.
    mute = verdicts["pacs.dicom-echo"]
    assert mute.status == Status.WARNING and "does not answer as a DICOM node" in mute.found
    assert mute.seconds < 5


class _OtherServer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>welcome</html>")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def other_server() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _OtherServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_dead_and_wrong_peers_hold_nobody_up(bare: Settings, other_server: int) -> None:
    def peer(name: str, url: str) -> OrthancDestination:
        return OrthancDestination(name=name, url=url, timeout_seconds=2)

    with silent_port() as silent:
        started = time.monotonic()
        verdicts = look(
            bare,
            peer("down", f"http://127.0.0.1:{free_port()}"),
            peer("silent", f"http://127.0.0.1:{silent}"),
            peer("unknown", "http://u:geheim@nowhere.invalid:8042"),
            peer("other", f"http://127.0.0.1:{other_server}"),
            peer("no-url", "127.0.0.1:8042"),
        )
        assert time.monotonic() - started < 15
    assert states(verdicts) == {
        f"{name}.rest": Status.FAILED for name in ("down", "silent", "unknown", "other", "no-url")
    }
    assert "nobody answers" in verdicts["down.rest"].found and "connection refused" in verdicts["down.rest"].found
    assert "Start Orthanc" in verdicts["down.rest"].to_do
    assert "does not answer within 2 s" in verdicts["silent.rest"].found
    assert "nowhere.invalid:8042 is not known" in verdicts["unknown.rest"].found
    assert "not as Orthanc does" in verdicts["other.rest"].found and "Correct url" in verdicts["other.rest"].to_do
    assert "Correct url" in verdicts["no-url.rest"].to_do or "correct url" in verdicts["no-url.rest"].to_do
    assert "geheim" not in str(verdicts)


@pytest.mark.usefixtures("impatient")
def test_a_receiver_that_does_not_answer_is_not_ours(bare: Settings) -> None:
    with silent_port() as silent:
        bare.dicom.port = silent
        verdict = examine(bare, "receiver")["receiver.echo"]
    assert verdict.status == Status.FAILED and verdict.seconds < 5
    assert "does not answer as a DICOM node" in verdict.found and "ports.dicom" in verdict.to_do


def test_a_folder_is_tried_and_left_as_it_was(bare: Settings, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "file").touch()
    verdicts = look(
        bare,
        FolderDestination(name="there", path=there),
        FolderDestination(name="later", path=tmp_path / "later" / "folder"),
        FolderDestination(name="file", path=tmp_path / "file"),
    )
    assert verdicts["there.folder"].status == Status.OK and "is removed" in verdicts["there.folder"].found
    assert list(there.iterdir()) == []
    assert verdicts["later.folder"].status == Status.OK and "is not there yet" in verdicts["later.folder"].found
    assert not (tmp_path / "later").exists()
    assert verdicts["file.folder"].status == Status.FAILED and "is no folder" in verdicts["file.folder"].found


def test_a_folder_that_cannot_be_written_is_named(bare: Settings, small_disk: Callable[..., Path]) -> None:
    folder = small_disk()
    destination = FolderDestination(name="out", path=folder)
    little = look(bare, destination)["out.folder"]
    assert little.status == Status.WARNING and "0.00 GB free" in little.found
    small_disk("ro")
    read_only = look(bare, destination)["out.folder"]
    assert read_only.status == Status.FAILED
    assert f"{folder} cannot be written: Read-only file system" in read_only.found


def test_the_test_object_is_valid_and_says_what_it_is(tmp_path: Path) -> None:
    study = generate_uid(prefix=None)
    dataset = trial_dataset(study)
    path = tmp_path / "trial.dcm"
    path.write_bytes(as_parcel(dataset).content)
    assert dciodvfy_errors(path) == []
    assert dataset.PatientID == "CHEXNODE-DOCTOR" and "may be deleted" in dataset.SeriesDescription
    assert trial_dataset(study).SOPInstanceUID != dataset.SOPInstanceUID
