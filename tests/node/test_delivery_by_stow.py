"""Delivery to any server of STOW-RS: the stored bytes as they are, our credentials, and what its answers mean."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydicom import Dataset

from node.delivery.dicomweb import DicomwebSender
from node.doctor.checks import run_checks
from node.doctor.verdict import Status
from schemas.errors import DeliveryError, DeliveryRefusedError, DestinationDownError
from schemas.settings import DicomwebDestination, Settings
from tests.node.deliverables import tiny_parcel
from tests.support.peers import Orthanc
from tests.support.processes import free_port


def test_a_server_of_stow_rs_holds_the_very_bytes(orthanc: Orthanc) -> None:
    parcel = tiny_parcel()
    sender = DicomwebSender(DicomwebDestination(name="pacs", url=f"{orthanc.url}/dicom-web"))
    assert sender.send(parcel) == "stored by STOW-RS"
    sender.close()
    (orthanc_id,) = orthanc.client.lookup(parcel.sop_instance_uid)
    assert orthanc.client.instances.get_file(orthanc_id) == parcel.content


class Server:
    """Answers every request alike, and keeps what it was sent."""

    def __init__(self) -> None:
        self.status, self.body = 200, ""
        self.authorization: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def do_GET(self) -> None:
                outer.authorization.append(self.headers["Authorization"])
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(outer.body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/dicom-web"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def failed(uid: str, reason: int) -> str:
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.FailureReason = uid, reason
    answer = Dataset()
    answer.FailedSOPSequence = [item]
    return answer.to_json()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, DeliveryRefusedError),
        (401, DestinationDownError),
        (404, DeliveryError),
        (429, DestinationDownError),
        (500, DeliveryError),
        (503, DestinationDownError),
        (200, DeliveryError),  # success without a word on the object is no success
    ],
)
def test_each_status_says_whether_it_is_the_object_or_the_destination(
    server: Server, status: int, error: type[Exception]
) -> None:
    server.status = status
    with pytest.raises(error) as raised:
        DicomwebSender(DicomwebDestination(name="pacs", url=server.url)).send(tiny_parcel())
    assert type(raised.value) is error


@pytest.mark.parametrize("status", [200, 202, 409])
def test_a_full_server_is_the_destinations_state_whatever_the_http_status(server: Server, status: int) -> None:
    parcel = tiny_parcel()
    server.status, server.body = status, failed(parcel.sop_instance_uid, 0xA700)
    with pytest.raises(DestinationDownError, match="0xA700"):
        DicomwebSender(DicomwebDestination(name="pacs", url=server.url)).send(parcel)


def test_a_token_is_shown_and_is_a_way_to_log_in_of_its_own(server: Server) -> None:
    options = {"name": "pacs", "url": server.url, "token": "geheim"}
    destination = DicomwebDestination.model_validate(options)
    assert "geheim" not in repr(destination)
    with pytest.raises(DeliveryError):
        DicomwebSender(destination).send(tiny_parcel())
    assert server.authorization == ["Bearer geheim"]
    with pytest.raises(ValidationError, match="not both"):
        DicomwebDestination.model_validate({**options, "username": "a"})


def test_nobody_there_and_no_certificate_are_the_destinations_state(server: Server) -> None:
    for url in (
        f"http://127.0.0.1:{free_port()}",
        server.url.replace("http:", "https:"),
        "http://no.such.host.invalid",
    ):
        with pytest.raises(DestinationDownError):
            DicomwebSender(DicomwebDestination(name="pacs", url=url, timeout_seconds=5)).send(tiny_parcel())


def test_the_doctor_tells_a_server_that_answers_from_one_that_does_not_let_us_in(
    server: Server, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, destinations=[DicomwebDestination(name="pacs", url=server.url)])

    def found() -> Status:
        (verdict,) = run_checks(settings, store=False, only=["destination"])
        return verdict.status

    assert found() == Status.OK
    server.status = 403
    assert found() == Status.FAILED
