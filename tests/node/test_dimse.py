"""The storage service under bad conditions: what is not durable is not answered with success."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from node.dimse import DimseServer
from node.ledger import Ledger
from node.object_store import FolderObjectStore
from node.queue import Publisher
from node.reception import ReceptionDesk
from node.send import Sent, send_files
from schemas.errors import PeerError, PortInUseError
from schemas.settings import DicomSettings, Settings
from schemas.tables import Reception
from tests.support.phantoms import write_phantom
from tests.support.processes import free_port


class Service:
    """A listening service in this process."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.store = FolderObjectStore(folder / "objects")
        settings = Settings(home=folder, dicom=DicomSettings(port=free_port(), calling_ae_titles=["TESTSCU"]))
        self.desk = ReceptionDesk(ledger, self.store, settings)
        self.dicom = settings.dicom
        self.server = DimseServer(settings.dicom, self.desk, self.store, Publisher(settings))
        self.server.start()

    def send(self, path: Path, calling: str = "TESTSCU") -> Sent:
        (sent,) = send_files([path], "127.0.0.1", self.dicom.port, "CHEXNODE", calling)
        return sent

    def receptions(self) -> int:
        with self.ledger.read() as session:
            return session.scalar(select(func.count()).select_from(Reception)) or 0


@pytest.fixture
def service(ledger: Ledger, tmp_path: Path) -> Iterator[Service]:
    service = Service(ledger, tmp_path)
    yield service
    service.server.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_phantom(tmp_path / "a.dcm", rows=300, columns=300)
    return tmp_path / "a.dcm"


def test_a_full_disk_is_answered_a700_and_works_again_when_there_is_room(
    service: Service, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert service.send(path).status == 0xA700
    assert service.receptions() == 0
    assert list(service.store) == []
    assert list(service.store.incoming.iterdir()) == []
    assert service.send(path).status == 0
    assert service.receptions() == 1


def test_a_ledger_that_does_not_answer_is_answered_a700_and_loses_nothing(
    service: Service, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(change: object) -> None:
        raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    with monkeypatch.context() as patch:
        patch.setattr(service.ledger, "write", down)
        assert service.send(path).status == 0xA700
    assert service.send(path).status == 0
    assert service.receptions() == 1


def test_garbage_in_place_of_a_data_set_is_refused_and_the_association_goes_on(
    service: Service, path: Path, tmp_path: Path
) -> None:
    content = bytearray(path.read_bytes())
    start = content.index(b"\x08\x00\x05\x00CS")
    content[start : start + 600] = b"\xff" * 600
    (tmp_path / "b.dcm").write_bytes(bytes(content))
    garbage, good = send_files([tmp_path / "b.dcm", path], "127.0.0.1", service.dicom.port, "CHEXNODE", "TESTSCU")
    assert garbage.status != 0
    assert good.status == 0
    assert service.receptions() == 1
    assert list(service.store.incoming.iterdir()) == []


def test_strangers_are_rejected(service: Service, path: Path) -> None:
    with pytest.raises(PeerError, match="rejects"):
        service.send(path, calling="STRANGER")


def test_with_an_empty_allow_list_everybody_is_rejected(ledger: Ledger, tmp_path: Path, path: Path) -> None:
    settings = Settings(home=tmp_path, dicom=DicomSettings(port=free_port()))
    store = FolderObjectStore(tmp_path / "objects")
    desk = ReceptionDesk(ledger, store, settings)
    server = DimseServer(settings.dicom, desk, store, Publisher(settings))
    server.start()
    try:
        with pytest.raises(PeerError, match="rejects"):
            send_files([path], "127.0.0.1", settings.dicom.port, "CHEXNODE", "ANY")
    finally:
        server.stop()


def test_a_port_in_use_is_an_error_that_says_what_to_set(service: Service) -> None:
    second = DimseServer(service.dicom, service.desk, service.store, Publisher(Settings(home=service.store.root)))
    with pytest.raises(PortInUseError, match="CHEXNODE_DICOM__PORT"):
        second.start()


def test_other_services_are_not_offered(service: Service) -> None:
    entity = AE("TESTSCU")
    entity.add_requested_context(PatientRootQueryRetrieveInformationModelFind)
    association = entity.associate("127.0.0.1", service.dicom.port, ae_title="CHEXNODE")
    assert not association.accepted_contexts
    association.abort()
