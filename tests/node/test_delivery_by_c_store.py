"""Delivery by C-STORE: the peer's status decides, its syntaxes are respected, and stored bytes are not touched."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import build_context, evt
from pynetdicom.dsutils import split_dataset
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.delivery.dicom import DicomSender
from node.delivery.parcel import Parcel
from node.doctor.checks import run_checks
from node.doctor.verdict import Status
from schemas.errors import DeliveryError, DeliveryRefusedError, DestinationDownError
from schemas.settings import DicomDestination, ResultObject, Settings
from tests.node.deliverables import tiny_parcel
from tests.support.peers import require
from tests.support.processes import free_port
from tests.support.storage_scp import Storescp, answering, status, storescp


def destination(port: int, **options: Any) -> DicomDestination:
    values = {"name": "pacs", "host": "127.0.0.1", "port": port, "ae_title": "PACS", "calling_ae_title": "CHEXNODE"}
    return DicomDestination.model_validate({**values, "timeout_seconds": 20, **options})


def send(port: int, *parcels: Parcel, **options: Any) -> list[str]:
    sender = DicomSender(destination(port, **options))
    try:
        return [sender.send(parcel) for parcel in parcels]
    finally:
        sender.close()


def encoded_data_set(path: Path) -> bytes:
    _, offset = split_dataset(path)
    return path.read_bytes()[offset:]


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Storescp]:
    with storescp(tmp_path / "pacs") as server:
        yield server


def test_objects_arrive_byte_for_byte_over_one_association(peer: Storescp, tmp_path: Path) -> None:
    parcels = [tiny_parcel() for _ in range(3)]
    assert send(peer.port, *parcels) == ["stored by C-STORE"] * 3
    assert peer.said.count("Association Acknowledged") == 1
    sent = tmp_path / "sent.dcm"
    arrived = {dcmread(path).SOPInstanceUID: path for path in peer.files}
    for parcel in parcels:
        sent.write_bytes(parcel.content)
        assert encoded_data_set(arrived[parcel.sop_instance_uid]) == encoded_data_set(sent)


def test_a_peer_of_implicit_vr_alone_gets_the_same_content_in_it(tmp_path: Path) -> None:
    parcel = tiny_parcel()
    (tmp_path / "sent.dcm").write_bytes(parcel.content)
    with storescp(tmp_path / "pacs", "+xi") as peer:
        send(peer.port, parcel)
        (path,) = peer.files
        arrived = dcmread(path)
    assert arrived.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    # Values alone: of pixels in one byte implicit VR knows no OB.
    sent = dcmread(tmp_path / "sent.dcm")
    assert {each.tag: each.value for each in arrived} == {each.tag: each.value for each in sent}


def test_tls_is_spoken_and_an_unknown_certificate_is_not_accepted(tmp_path: Path) -> None:
    certificate, key = tmp_path / "pacs.pem", tmp_path / "pacs.key"
    command = [require("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with storescp(tmp_path / "pacs", "+tls", str(key), str(certificate), "-ic") as peer:
        options = {"host": "localhost", "tls": True}
        assert send(peer.port, tiny_parcel(), tls_authorities=certificate, **options) == ["stored by C-STORE"]
        with pytest.raises(DestinationDownError, match="certificate"):
            send(peer.port, tiny_parcel(), **options)
        with pytest.raises(DestinationDownError):
            send(peer.port, tiny_parcel())


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (0xA700, DestinationDownError),  # out of resources: the destination's state
        (0x0124, DestinationDownError),  # not authorised
        (0x0110, DeliveryError),  # processing failure: this object's, perhaps
        (0xA900, DeliveryRefusedError),
        (0xC123, DeliveryRefusedError),
        (0x0122, DeliveryRefusedError),
    ],
)
def test_a_failure_status_is_no_success_and_decides_whether_another_try_can_help(
    code: int, error: type[Exception]
) -> None:
    handlers = [(evt.EVT_C_STORE, lambda event: status(code, "said by the peer"))]
    with (
        answering([build_context(SecondaryCaptureImageStorage)], handlers) as port,
        pytest.raises(error, match=f"0x{code:04X}.*said by the peer") as raised,
    ):
        send(port, tiny_parcel())
    assert type(raised.value) is error


@pytest.mark.parametrize("code", [0xB000, 0xB006, 0xB007, 0x0111])
def test_what_the_peer_holds_after_all_is_delivered_and_its_answer_says_how(code: int) -> None:
    handlers = [(evt.EVT_C_STORE, lambda event: status(code))]
    with answering([build_context(SecondaryCaptureImageStorage)], handlers) as port:
        (answer,) = send(port, tiny_parcel())
    assert f"0x{code:04X}" in answer


def test_a_peer_that_hangs_up_instead_of_answering_has_not_taken_the_object() -> None:
    calls: list[int] = []

    def abort_once(event: Any) -> int:
        calls.append(1)
        if len(calls) == 1:
            event.assoc.abort()
        return 0

    with answering([build_context(SecondaryCaptureImageStorage)], [(evt.EVT_C_STORE, abort_once)]) as port:
        sender = DicomSender(destination(port))
        with pytest.raises(DeliveryError, match="broke off") as raised:
            sender.send(tiny_parcel())
        assert not isinstance(raised.value, DestinationDownError)
        # The next one goes out on an association of its own.
        assert sender.send(tiny_parcel()) == "stored by C-STORE"
        sender.close()


def test_a_sop_class_that_the_peer_does_not_take_is_refused_with_what_to_do() -> None:
    with answering([build_context(Verification)], []) as port, pytest.raises(DestinationDownError, match="none of the"):
        send(port, tiny_parcel())
    other = build_context("1.2.840.10008.5.1.4.1.1.88.34", ExplicitVRLittleEndian)
    with answering([other], []) as port, pytest.raises(DeliveryRefusedError, match="deliveries retry"):
        send(port, tiny_parcel())


def test_nobody_there_is_worth_another_try() -> None:
    with pytest.raises(DestinationDownError, match="refused"):
        send(free_port(), tiny_parcel())


def test_the_doctor_says_what_the_peer_does_not_take_and_whether_it_commits(peer: Storescp, tmp_path: Path) -> None:
    asked = destination(peer.port, commitment=True, objects=[ResultObject.REPORT])
    settings = Settings(home=tmp_path, destinations=[asked])
    found = {each.name: each.status for each in run_checks(settings, store=False, only=["destination"])}
    assert found == {
        "destination.pacs.dicom-echo": Status.OK,
        "destination.pacs.objects": Status.OK,
        "destination.pacs.commitment": Status.FAILED,
    }
