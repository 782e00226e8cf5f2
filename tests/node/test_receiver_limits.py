"""What a peer may not do to the receiver, and that others do not notice."""

import errno
import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from node.acceptor.associate import MalformedError, read_request
from node.ledger.ledger import Ledger
from tests.node.receiving import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    RELEASE_RP,
    RELEASE_RQ,
    RawPeer,
    echo_request,
    served,
    store_request,
)
from tests.support.dicom_tools import echoscu
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for

_MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """More than one MiB."""
    write_phantom(tmp_path / "a.dcm", rows=1000, columns=600)
    assert (tmp_path / "a.dcm").stat().st_size > _MIB
    return tmp_path / "a.dcm"


def test_below_the_watermark_objects_are_refused_with_a700_and_the_rest_goes_on(
    sqlite_ledger: Ledger, tmp_path: Path, path: Path
) -> None:
    with served(sqlite_ledger, tmp_path, minimum_free_bytes=1 << 60) as service:
        first, second = service.send(path, path)
        assert (first.status, second.status) == (0xA700, 0xA700)
        assert "storage.minimum_free_bytes" in first.comment
        assert echoscu(service.port) == 0
        assert service.arriving() == []


def test_a_disk_that_fills_up_while_an_object_comes_is_answered_a700_and_the_association_goes_on(
    sqlite_ledger: Ledger, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    left = [200_000]

    def full(descriptor: int, content: memoryview) -> int:
        left[0] -= len(content)
        if left[0] < 0 and len(content) > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content)

    with served(sqlite_ledger, tmp_path) as service:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            first, second = service.send(path, path)
        assert (first.status, second.status) == (0xA700, 0xA700)
        assert service.arriving() == []
        assert service.send(path)[0].status == 0


def test_an_object_larger_than_allowed_is_refused_and_the_next_one_is_taken(
    sqlite_ledger: Ledger, tmp_path: Path, path: Path
) -> None:
    write_phantom(tmp_path / "small.dcm", rows=300, columns=300)
    with served(sqlite_ledger, tmp_path, maximum_object_bytes=_MIB) as service:
        large, small = service.send(path, tmp_path / "small.dcm")
        assert large.status == 0xC0A7
        assert "dicom.maximum_object_bytes" in large.comment
        assert small.status == 0
        assert service.arriving() == []


def test_one_association_more_than_allowed_is_rejected_for_the_moment(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    with served(sqlite_ledger, tmp_path, maximum_associations=2) as service, RawPeer(service.port) as first:
        with RawPeer(service.port) as second, RawPeer(service.port) as third, capture_logs() as logs:
            assert first.associate()[0] == second.associate()[0] == ASSOCIATE_AC
            # Transient; of the presentation provider; local limit exceeded (PS3.8 table 9-21).
            assert third.associate() == (ASSOCIATE_RJ, bytes((0, 2, 3, 2)))
            assert any("dicom.maximum_associations (2)" in str(each.get("why")) for each in logs)
            second.send(RELEASE_RQ, bytes(4))
            assert second.read()[0] == RELEASE_RP
        assert wait_for("its place is free", lambda: _accepted(service.port))


def test_one_peer_cannot_take_all_associations(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    with served(sqlite_ledger, tmp_path, maximum_associations_per_peer=1) as service:
        with RawPeer(service.port) as first, RawPeer(service.port) as second, capture_logs() as logs:
            assert first.associate()[0] == ASSOCIATE_AC
            assert second.associate()[0] == ASSOCIATE_RJ
        assert any("dicom.maximum_associations_per_peer (1)" in str(each.get("why")) for each in logs)


def test_silent_connections_hold_nobody_up(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    with served(sqlite_ledger, tmp_path) as service:
        silent = [RawPeer(service.port) for _ in range(20)]
        try:
            assert echoscu(service.port) == 0
        finally:
            for each in silent:
                each.socket.close()


def test_an_idle_association_is_aborted(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    with (
        served(sqlite_ledger, tmp_path, network_timeout_seconds=0.2) as service,
        RawPeer(service.port) as peer,
        capture_logs() as logs,
    ):
        assert peer.associate()[0] == ASSOCIATE_AC
        assert peer.read()[0] == ABORT
    assert any("dicom.network_timeout_seconds" in str(each.get("why")) for each in logs)


def test_a_sender_that_drips_is_aborted_however_steadily_it_drips(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    with (
        served(sqlite_ledger, tmp_path, network_timeout_seconds=0.5, message_timeout_seconds=0.3) as service,
        RawPeer(service.port) as peer,
        capture_logs() as logs,
    ):
        assert peer.associate()[0] == ASSOCIATE_AC
        peer.socket.settimeout(0.05)
        peer.socket.sendall(struct.pack(">BBL", 4, 0, 100_000))
        started, ended = time.monotonic(), False
        while not ended and time.monotonic() < started + 60:
            try:
                peer.socket.sendall(b"\0")
                ended = peer.read()[0] == ABORT
            except TimeoutError:
                continue
        assert ended
    assert any("dicom.message_timeout_seconds" in str(each.get("why")) for each in logs)


@pytest.mark.parametrize(
    ("bytes_sent", "reason"),
    [
        pytest.param(struct.pack(">BBL", 4, 0, 0xFFFFFFFF), 6, id="a PDU of 4 GB"),
        pytest.param(struct.pack(">BBL", 1, 0, 0xFFFFFFFF), 6, id="a request of 4 GB"),
        pytest.param(struct.pack(">BBL", 0x99, 0, 4), 1, id="a PDU of no type"),
        pytest.param(struct.pack(">BBL", 2, 0, 4) + bytes(4), 2, id="an answer that nobody asked for"),
        pytest.param(struct.pack(">BBLL", 4, 0, 4, 100), 6, id="a value longer than its PDU"),
        pytest.param(struct.pack(">BBLLBB", 4, 0, 6, 2, 1, 2), 2, id="a data set before its command"),
        pytest.param(struct.pack(">BBLLBB", 4, 0, 6, 2, 1, 3), 6, id="an empty command"),
    ],
)
def test_a_breach_of_the_protocol_is_aborted_with_its_reason(
    sqlite_ledger: Ledger, tmp_path: Path, bytes_sent: bytes, reason: int
) -> None:
    with served(sqlite_ledger, tmp_path) as service, RawPeer(service.port) as peer, RawPeer(service.port) as other:
        assert peer.associate()[0] == other.associate()[0] == ASSOCIATE_AC
        peer.socket.sendall(bytes_sent)
        # From the provider (PS3.8 table 9-26).
        assert peer.read() == (ABORT, bytes((0, 0, 2, reason)))
        other.fragment(echo_request(), command=True, last=True)
        assert other.status() == 0


def test_when_it_stops_the_object_under_way_is_still_answered(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    header = write_phantom(tmp_path / "a.dcm", rows=300, columns=300)
    content = (tmp_path / "a.dcm").read_bytes()[132 + 12 + header.file_meta.FileMetaInformationGroupLength :]
    with served(sqlite_ledger, tmp_path) as service, RawPeer(service.port) as peer, ThreadPoolExecutor() as pool:
        peer.associate(header.SOPClassUID)
        peer.fragment(store_request(header.SOPClassUID, header.SOPInstanceUID), command=True, last=True)
        peer.fragment(content[:1000], command=False, last=False)
        wait_for("it has begun", service.arriving)
        stopped = pool.submit(service.server.stop)
        wait_for("it listens no more", lambda: not _listens(service.port))
        peer.fragment(content[1000:100_000], command=False, last=False)
        peer.fragment(content[100_000:], command=False, last=True)
        assert peer.status() == 0
        assert peer.read()[0] == ABORT
        stopped.result(60)
        assert service.receptions() == 1


def test_when_it_stops_open_associations_end(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    with served(sqlite_ledger, tmp_path) as service:
        peer = RawPeer(service.port)
        peer.associate()
    assert peer.read()[0] == 0
    peer.socket.close()


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_whatever_comes_as_a_request_for_an_association_is_read_or_called_malformed(noise: bytes) -> None:
    fixed = struct.pack(">HH16s16s32s", 1, 0, b"CHEXNODE", b"TESTSCU", b"")
    for body in (noise, fixed + noise):
        try:
            read_request(body)
        except MalformedError:
            continue


def _listens(port: int) -> bool:
    try:
        RawPeer(port).socket.close()
    except OSError:
        return False
    return True


def _accepted(port: int) -> bool:
    with RawPeer(port) as peer:
        return peer.associate()[0] == ASSOCIATE_AC
