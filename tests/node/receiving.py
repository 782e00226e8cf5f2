"""A receiver in the test's own process, and peers that speak to it byte by byte."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from sqlalchemy import func, select

from node.intake.reception import ReceptionDesk
from node.ledger.ledger import Ledger
from node.network.dicom_tls import ClientTls
from node.network.dimse import DimseServer
from node.network.send import Sent, send_files
from node.queue import Publisher
from node.storage.object_store import FolderObjectStore
from schemas.settings import DicomSettings, Settings, StorageSettings
from schemas.tables import Reception
from tests.support.processes import free_port

CALLING = "TESTSCU"
VERIFICATION = "1.2.840.10008.1.1"
#: PDU types (PS3.8 9.3.1).
ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 2, 3, 4, 5, 6, 7


class Service:
    """A listening service. `dicom` are options of DicomSettings."""

    def __init__(self, ledger: Ledger, folder: Path, minimum_free_bytes: int = 0, **dicom: Any) -> None:
        self.ledger = ledger
        self.store = FolderObjectStore(folder / "objects")
        options = {"port": free_port(), "calling_ae_titles": [CALLING], **dicom}
        self.settings = Settings(
            home=folder,
            dicom=DicomSettings(**options),
            storage=StorageSettings(minimum_free_bytes=minimum_free_bytes),
        )
        self.dicom = self.settings.dicom
        self.desk = ReceptionDesk(ledger, self.store, self.settings)
        self.server = DimseServer(self.settings, self.desk, self.store, Publisher(self.settings))
        self._before = self._recorded()
        self.server.start()

    @property
    def port(self) -> int:
        return self.dicom.port

    def send(
        self, *paths: Path, calling: str = CALLING, called: str = "CHEXNODE", tls: ClientTls | None = None
    ) -> list[Sent]:
        host, port = ("localhost", self.dicom.tls.port) if tls else ("127.0.0.1", self.port)
        return send_files(paths, host, port, called, calling, tls=tls)

    def receptions(self) -> int:
        """How many objects have been recorded since it listens."""
        return self._recorded() - self._before

    def _recorded(self) -> int:
        with self.ledger.read() as session:
            return session.scalar(select(func.count()).select_from(Reception)) or 0

    def arriving(self) -> list[Path]:
        """Files of objects that are on their way."""
        return list(self.store.incoming.iterdir())


@contextmanager
def served(ledger: Ledger, folder: Path, minimum_free_bytes: int = 0, **dicom: Any) -> Iterator[Service]:
    service = Service(ledger, folder, minimum_free_bytes, **dicom)
    try:
        yield service
    finally:
        service.server.stop()


class RawPeer:
    """A connection whose bytes the test chooses."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)

    def __enter__(self) -> "RawPeer":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def associate(self, *sop_classes: str, calling: str = CALLING) -> tuple[int, bytes]:
        """Ask for an association with a context (1, 3, ...) for each SOP class; the answering PDU's type and body."""
        primitive = A_ASSOCIATE()
        primitive.application_context_name = "1.2.840.10008.3.1.1.1"
        primitive.calling_ae_title, primitive.called_ae_title = calling, "CHEXNODE"
        length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
        length.maximum_length_received = 16382
        implementation.implementation_class_uid = "1.2.3"
        primitive.user_information = [length, implementation]
        contexts = [build_context(sop_class, ExplicitVRLittleEndian) for sop_class in sop_classes or (VERIFICATION,)]
        for number, context in enumerate(contexts):
            context.context_id = 2 * number + 1
        primitive.presentation_context_definition_list = contexts
        pdu = A_ASSOCIATE_RQ()
        pdu.from_primitive(primitive)
        self.socket.sendall(pdu.encode())
        return self.read()

    def send(self, kind: int, body: bytes) -> None:
        self.socket.sendall(struct.pack(">BBL", kind, 0, len(body)) + body)

    def fragment(self, content: bytes, *, command: bool, last: bool, context_id: int = 1) -> None:
        """Send a P-DATA-TF with one presentation data value."""
        header = command | last << 1
        self.send(P_DATA, struct.pack(">LBB", len(content) + 2, context_id, header) + content)

    def read(self) -> tuple[int, bytes]:
        """Type and body of the next PDU; (0, b"") when the connection has ended."""
        try:
            header = self._read(6)
            if not header:
                return 0, b""
            kind, _, length = struct.unpack(">BBL", header)
            return kind, self._read(length)
        except ConnectionError:
            return 0, b""

    def status(self) -> int:
        """Status of the response that comes next."""
        kind, body = self.read()
        assert kind == P_DATA, kind
        command = body[6:]
        return int.from_bytes(value_of(command, 0x0900), "little")

    def _read(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            part = self.socket.recv(size - len(content))
            if not part:
                return b""
            content += part
        return content


def command_set(**elements: int | str) -> bytes:
    """An encoded command set; elements by the last four digits of their tag: e0100=0x0030."""
    content = b""
    for name, value in sorted(elements.items()):
        encoded = struct.pack("<H", value) if isinstance(value, int) else value.encode()
        encoded += b"\0" * (len(encoded) % 2)
        content += struct.pack("<HHL", 0, int(name[1:], 16), len(encoded)) + encoded
    return struct.pack("<HHLL", 0, 0, 4, len(content)) + content


def value_of(command: bytes, element: int) -> bytes:
    at = 0
    while at < len(command):
        _, number, length = struct.unpack_from("<HHL", command, at)
        if number == element:
            return command[at + 8 : at + 8 + length]
        at += 8 + length
    raise AssertionError(f"no element {element:04X}")


def echo_request() -> bytes:
    return command_set(e0002=VERIFICATION, e0100=0x0030, e0110=1, e0800=0x0101)


def store_request(sop_class: str, instance: str) -> bytes:
    return command_set(e0002=sop_class, e0100=0x0001, e0110=1, e0700=0, e0800=0x0001, e1000=instance)
