"""Bytes of the upper layer protocol and of DIMSE messages, right or wrong as the caller wishes (PS3.7, PS3.8).

Written from the standard and apart from the node's own code, which is what these bytes are thrown at.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

A_ASSOCIATE_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, P_DATA_TF, A_RELEASE_RQ, A_RELEASE_RP, A_ABORT = range(1, 8)
#: Message control header (PS3.8 E.2).
DATA, COMMAND, LAST_DATA, LAST_COMMAND = range(4)

VERIFICATION = "1.2.840.10008.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN = (f"1.2.840.10008.1.2{suffix}" for suffix in ("", ".1", ".1.99", ".2"))
#: Presentation context IDs of `contexts()`.
ECHO_ID, EXPLICIT_ID, DEFLATED_ID, IMPLICIT_ID, BIG_ENDIAN_ID = 1, 3, 5, 7, 9

C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
NO_DATA_SET, WITH_DATA_SET = 0x0101, 0x0001
RELEASE = struct.pack(">BBLL", A_RELEASE_RQ, 0, 4, 0)


def pdu(kind: int, body: bytes, claimed: int | None = None) -> bytes:
    """A PDU, whose length may be claimed to be another."""
    return struct.pack(">BBL", kind & 255, 0, len(body) if claimed is None else claimed & 0xFFFFFFFF) + body


def item(kind: int, value: bytes, claimed: int | None = None) -> bytes:
    return struct.pack(">BBH", kind & 255, 0, len(value) if claimed is None else claimed & 0xFFFF) + value


def context(context_id: int, abstract: bytes, transfers: Iterable[bytes]) -> bytes:
    syntaxes = b"".join(item(0x40, each) for each in transfers)
    return item(0x20, bytes((context_id & 255, 0, 0, 0)) + item(0x30, abstract) + syntaxes)


def contexts() -> list[bytes]:
    """What `associate` proposes."""
    pairs = [
        (ECHO_ID, VERIFICATION, IMPLICIT),
        (EXPLICIT_ID, DX, EXPLICIT),
        (DEFLATED_ID, DX, DEFLATED),
        (IMPLICIT_ID, DX, IMPLICIT),
        (BIG_ENDIAN_ID, DX, BIG_ENDIAN),
    ]
    return [context(number, abstract.encode(), [transfer.encode()]) for number, abstract, transfer in pairs]


@dataclass(frozen=True)
class Association:
    """The parts of an A-ASSOCIATE-RQ."""

    proposed: Sequence[bytes]
    called: bytes = b"CHEXNODE"
    calling: bytes = b"TESTSCU"
    version: int = 1
    application: bytes = b"1.2.840.10008.3.1.1.1"
    user: Sequence[bytes] = (struct.pack(">BBHL", 0x51, 0, 4, 16384), item(0x52, b"1.2.3.4"))

    def body(self) -> bytes:
        """Without PDU type and length."""
        fixed = struct.pack(
            ">HH16s16s32s", self.version & 0xFFFF, 0, self.called.ljust(16)[:16], self.calling.ljust(16)[:16], bytes(32)
        )
        return b"".join([fixed, item(0x10, self.application), *self.proposed, item(0x50, b"".join(self.user))])


def associate() -> bytes:
    """A request that the node accepts."""
    return pdu(A_ASSOCIATE_RQ, Association(contexts()).body())


def pdv(context_id: int, control: int, fragment: bytes, claimed: int | None = None) -> bytes:
    length = len(fragment) + 2 if claimed is None else claimed & 0xFFFFFFFF
    return struct.pack(">LBB", length, context_id & 255, control & 255) + fragment


def data(context_id: int, control: int, fragment: bytes, claimed: int | None = None) -> bytes:
    """A P-DATA-TF with one presentation data value."""
    return pdu(P_DATA_TF, pdv(context_id, control, fragment, claimed))


def fragmented(context_id: int, data_set: bytes, size: int = 16000) -> bytes:
    """The data set of a message as P-DATA-TFs."""
    parts = [data_set[at : at + size] for at in range(0, len(data_set), size)] or [b""]
    last = len(parts) - 1
    return b"".join(data(context_id, LAST_DATA if at == last else DATA, part) for at, part in enumerate(parts))


def element(group: int, number: int, value: bytes, claimed: int | None = None) -> bytes:
    """An element in implicit VR little endian."""
    return struct.pack("<HHL", group, number, len(value) if claimed is None else claimed & 0xFFFFFFFF) + value


def explicit(group: int, number: int, vr: bytes, value: bytes, claimed: int | None = None) -> bytes:
    """An element in explicit VR little endian."""
    length = len(value) if claimed is None else claimed
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"OL", b"UC", b"UR"):
        return struct.pack("<HH2sHL", group, number, vr, 0, length & 0xFFFFFFFF) + value
    return struct.pack("<HH2sH", group, number, vr, length & 0xFFFF) + value


def uid(text: str | bytes) -> bytes:
    value = text if isinstance(text, bytes) else text.encode()
    return value + b"\0" * (len(value) % 2)


def command(elements: Iterable[bytes], claimed: int | None = None) -> bytes:
    """A command set with its group length."""
    body = b"".join(elements)
    return element(0, 0, struct.pack("<L", (len(body) if claimed is None else claimed) & 0xFFFFFFFF)) + body


def store_request(instance: str | bytes, sop_class: str | bytes = DX, message: int = 1) -> list[bytes]:
    """Elements of a C-STORE-RQ (PS3.7 9.3.1.1)."""
    return [
        element(0, 0x0002, uid(sop_class)),
        element(0, 0x0100, struct.pack("<H", C_STORE_RQ)),
        element(0, 0x0110, struct.pack("<H", message)),
        element(0, 0x0700, struct.pack("<H", 0)),
        element(0, 0x0800, struct.pack("<H", WITH_DATA_SET)),
        element(0, 0x1000, uid(instance)),
    ]


def echo_request(message: int = 1) -> list[bytes]:
    """Elements of a C-ECHO-RQ (PS3.7 9.3.5.1)."""
    return [
        element(0, 0x0002, uid(VERIFICATION)),
        element(0, 0x0100, struct.pack("<H", C_ECHO_RQ)),
        element(0, 0x0110, struct.pack("<H", message)),
        element(0, 0x0800, struct.pack("<H", NO_DATA_SET)),
    ]


def store(context_id: int, instance: str | bytes, data_set: bytes) -> bytes:
    """A whole C-STORE request."""
    return data(context_id, LAST_COMMAND, command(store_request(instance))) + fragmented(context_id, data_set)


def image(
    instance: str | bytes, *more: bytes, study: str | bytes = "1.2.3.1", series: str | bytes = "1.2.3.2"
) -> bytes:
    """A small data set in explicit VR little endian that the node stores, with `more` elements before Pixel Data."""
    return b"".join(
        [
            explicit(0x0008, 0x0016, b"UI", uid(DX)),
            explicit(0x0008, 0x0018, b"UI", uid(instance)),
            explicit(0x0008, 0x0060, b"CS", b"DX"),
            explicit(0x0010, 0x0010, b"PN", b"FUZZ"),
            explicit(0x0010, 0x0020, b"LO", b"FUZZ"),
            explicit(0x0020, 0x000D, b"UI", uid(study)),
            explicit(0x0020, 0x000E, b"UI", uid(series)),
            explicit(0x0028, 0x0010, b"US", b"\4\0"),
            explicit(0x0028, 0x0011, b"US", b"\4\0"),
            *more,
            explicit(0x7FE0, 0x0010, b"OW", bytes(32)),
        ]
    )
