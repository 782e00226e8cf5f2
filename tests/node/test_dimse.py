"""The storage service under bad conditions: what is not durable is not answered with success."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from node.acceptor.contexts import standard_storage_classes, storage_contexts
from node.ledger.ledger import Ledger
from node.network.dimse import DimseServer
from node.queue import Publisher
from schemas.errors import PeerError, PortInUseError
from schemas.settings import Settings
from tests.node.receiving import (
    CALLING,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    RawPeer,
    Service,
    command_set,
    echo_request,
    served,
    store_request,
)
from tests.support.dicom_tools import echoscu, storescu
from tests.support.phantoms import write_phantom

_IMAGE = str(ComputedRadiographyImageStorage)


@pytest.fixture
def service(ledger: Ledger, tmp_path: Path) -> Iterator[Service]:
    with served(ledger, tmp_path) as service:
        yield service


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
        assert service.send(path)[0].status == 0xA700
    assert service.receptions() == 0
    assert list(service.store) == []
    assert service.arriving() == []
    assert service.send(path)[0].status == 0
    assert service.receptions() == 1


def test_a_ledger_that_does_not_answer_is_answered_a700_and_loses_nothing(
    service: Service, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(change: object) -> None:
        raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    with monkeypatch.context() as patch:
        patch.setattr(service.ledger, "write", down)
        assert service.send(path)[0].status == 0xA700
    assert service.send(path)[0].status == 0
    assert service.receptions() == 1


def test_garbage_in_place_of_a_data_set_is_refused_and_the_association_goes_on(
    service: Service, path: Path, tmp_path: Path
) -> None:
    content = bytearray(path.read_bytes())
    start = content.index(b"\x08\x00\x05\x00CS")
    content[start : start + 600] = b"\xff" * 600
    (tmp_path / "b.dcm").write_bytes(bytes(content))
    garbage, good = service.send(tmp_path / "b.dcm", path)
    assert garbage.status != 0
    assert good.status == 0
    assert service.receptions() == 1
    assert service.arriving() == []


def test_strangers_are_rejected(sqlite_ledger: Ledger, tmp_path: Path, path: Path) -> None:
    with served(sqlite_ledger, tmp_path) as service, pytest.raises(PeerError, match="rejects calling AE title"):
        service.send(path, calling="STRANGER")


def test_with_an_empty_allow_list_everybody_is_rejected(sqlite_ledger: Ledger, tmp_path: Path, path: Path) -> None:
    with (
        served(sqlite_ledger, tmp_path, calling_ae_titles=[]) as service,
        pytest.raises(PeerError, match="rejects calling AE title"),
    ):
        service.send(path, calling="ANY")


def test_a_title_is_let_in_from_its_addresses_only_and_the_log_says_what_to_add(
    sqlite_ledger: Ledger, tmp_path: Path, path: Path
) -> None:
    allowed = ["ROOM1@10.1.0.0/16", "ROOM2@10.1.0.0/16", "ROOM2@127.0.0.1"]
    with served(sqlite_ledger, tmp_path, calling_ae_titles=allowed) as service:
        assert service.send(path, calling="ROOM2")[0].status == 0
        with capture_logs() as logs, pytest.raises(PeerError, match="rejects calling AE title"):
            service.send(path, calling="ROOM1")
    (rejected,) = [each for each in logs if each["event"] == "association rejected"]
    assert "add 'ROOM1@127.0.0.1' to dicom.calling_ae_titles" in rejected["why"]


def test_it_answers_to_each_of_its_titles_and_to_no_other(sqlite_ledger: Ledger, tmp_path: Path, path: Path) -> None:
    with served(sqlite_ledger, tmp_path, ae_title="CHEST", other_ae_titles=["CHEST_OLD"]) as service:
        assert service.send(path, called="CHEST_OLD")[0].status == 0
        assert echoscu(service.port, called="CHEST") == 0
        with pytest.raises(PeerError, match="rejects called AE title"):
            service.send(path, called="CHEXNODE")


def test_a_port_in_use_is_an_error_that_says_what_to_set(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    with served(sqlite_ledger, tmp_path) as service:
        publisher = Publisher(Settings(home=service.store.root))
        second = DimseServer(service.settings, service.desk, service.store, publisher)
        with pytest.raises(PortInUseError, match="CHEXNODE_DICOM__PORT"):
            second.start()


def test_every_storage_class_and_transfer_syntax_of_the_standard_is_accepted_and_other_services_are_not(
    sqlite_ledger: Ledger, tmp_path: Path
) -> None:
    classes = standard_storage_classes()
    assert len(classes) > 190
    with served(sqlite_ledger, tmp_path) as service:
        (syntaxes,) = {each.transfer_syntaxes for each in storage_contexts(service.dicom)}
        assert len(syntaxes) > 50
        # One class in every syntax, and every class in one.
        proposed = [(_IMAGE, syntax) for syntax in sorted(syntaxes)]
        proposed += [(sop_class, str(ExplicitVRLittleEndian)) for sop_class in classes]
        for start in range(0, len(proposed), 100):
            entity = AE(CALLING)
            for sop_class, syntax in proposed[start : start + 100]:
                entity.add_requested_context(sop_class, syntax)
            entity.add_requested_context(PatientRootQueryRetrieveInformationModelFind)
            asked = len(entity.requested_contexts)
            association = entity.associate("127.0.0.1", service.port, ae_title="CHEXNODE")
            assert len(association.accepted_contexts) == asked - 1
            (rejected,) = association.rejected_contexts
            assert rejected.abstract_syntax == PatientRootQueryRetrieveInformationModelFind
            association.release()


def test_private_classes_and_syntaxes_are_taken_when_the_settings_name_them(
    sqlite_ledger: Ledger, tmp_path: Path, path: Path
) -> None:
    private = "1.2.826.0.1.3680043.10.1234.1"
    dataset = dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(private)
    dataset.save_as(tmp_path / "private.dcm")
    with (
        served(sqlite_ledger, tmp_path / "without") as service,
        pytest.raises(PeerError, match="none of the presentation contexts"),
    ):
        service.send(tmp_path / "private.dcm")
    with served(sqlite_ledger, tmp_path / "with", private_sop_classes=[private]) as service:
        assert service.send(tmp_path / "private.dcm")[0].status == 0


def test_what_contradicts_its_request_is_refused_with_the_status_that_says_so(
    sqlite_ledger: Ledger, tmp_path: Path, path: Path
) -> None:
    dataset = dcmread(path)
    # Without preamble, "DICM", group length and what it counts.
    content = path.read_bytes()[132 + 12 + dataset.file_meta.FileMetaInformationGroupLength :]
    nested = b"\x08\x00\x05\x00SQ\x00\x00\xff\xff\xff\xff" * 500
    instance, sop_class = dataset.SOPInstanceUID, dataset.SOPClassUID
    cases = [
        # What is asked for, the context's class, the data set, and the status.
        (store_request(sop_class, "1.2.3"), sop_class, content, 0xA900),
        (store_request(_IMAGE, instance), _IMAGE, content, 0xA900),
        (store_request(sop_class, instance), _IMAGE, content, 0x0122),
        (store_request(sop_class, "../../etc/passwd"), sop_class, content, 0x0117),
        (store_request(sop_class, instance), sop_class, nested, 0xC000),
        (store_request(sop_class, instance), sop_class, b"", 0xA900),
        (store_request(sop_class, instance), sop_class, content, 0x0000),
    ]
    with served(sqlite_ledger, tmp_path) as service:
        for request, context, data_set, status in cases:
            with RawPeer(service.port) as peer:
                peer.associate(context)
                peer.fragment(request, command=True, last=True)
                for start in range(0, len(data_set) or 1, 60_000):
                    part = data_set[start : start + 60_000]
                    peer.fragment(part, command=False, last=start + 60_000 >= len(data_set))
                assert f"{peer.status():04X}" == f"{status:04X}"
                peer.send(RELEASE_RQ, bytes(4))
                assert peer.read()[0] == RELEASE_RP
        assert service.receptions() == 1
        assert service.arriving() == []


def test_an_operation_that_nobody_serves_is_answered_so_and_the_association_goes_on(
    sqlite_ledger: Ledger, tmp_path: Path
) -> None:
    with served(sqlite_ledger, tmp_path) as service, RawPeer(service.port) as peer:
        peer.associate()
        peer.fragment(command_set(e0002=VERIFICATION, e0100=0x0020, e0110=1, e0800=0x0101), command=True, last=True)
        assert peer.status() == 0x0211
        peer.fragment(echo_request(), command=True, last=True)
        assert peer.status() == 0


def test_a_message_may_come_in_any_fragments(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    request = echo_request()
    with served(sqlite_ledger, tmp_path) as service, RawPeer(service.port) as peer:
        peer.associate()
        for at in range(len(request)):
            peer.fragment(request[at : at + 1], command=True, last=at == len(request) - 1)
        kind, _ = peer.read()
        assert kind == P_DATA


def test_dcmtk_sends_over_one_association_and_over_many(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    paths = []
    study = write_phantom(tmp_path / "0.dcm", rows=300, columns=300)
    for number in range(1, 4):
        paths.append(tmp_path / f"{number}.dcm")
        write_phantom(paths[-1], study=study, rows=300, columns=300)
    with served(sqlite_ledger, tmp_path) as service:
        assert storescu(service.port, paths).returncode == 0
        # Every class that storescu knows, in 128 contexts.
        assert storescu(service.port, [tmp_path / "0.dcm"], ["-xs"]).returncode == 0
        assert service.receptions() == 4
