"""The hostile inputs: from a class and a seed always the same bytes, as one connection to the node would carry them."""

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.fuzz import wire
from tests.fuzz.wire import DATA, LAST_COMMAND, LAST_DATA, P_DATA_TF, RELEASE, Association

_CORPUS = Path(__file__).parent / "corpus"
#: What mends nothing, but might be believed: lengths at the edges of their types.
_LENGTHS = [0, 1, 2, 3, 7, 127, 255, 65534, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xC0000000, 0xFFFFFFFE, 0xFFFFFFFF]
_TRICKS = [
    b"../../../../tmp/fuzz",
    b"/etc/passwd",
    b"..",
    b".",
    b"1.2.3/../../4",
    b"1.2.3\\..\\4",
    b"1.2.3\0.4",
    b"%2e%2e%2f",
    b"1." * 40,
    b"",
    b"\xff\xfe",
    b"1.2.3;rm",
    b"$(id)",
    "１.２".encode(),
    b"con",
    b"A" * 4000,
]

Source = random.Random


@dataclass(frozen=True)
class Input:
    """What is sent over one connection."""

    kind: str
    seed: int
    content: bytes


def make(kind: str, seed: int) -> Input:
    """The input of this class (one of CLASSES) and seed."""
    return Input(kind, seed, CLASSES[kind](random.Random(f"{kind} {seed}")))


def _associations(source: Source) -> bytes:
    """A-ASSOCIATE-RQ of every shape, with a C-ECHO behind for those that are accepted."""
    shapes: list[Callable[[], bytes]] = [
        lambda: Association([]).body(),
        lambda: Association(wire.contexts() * source.randrange(2, 60)).body(),
        lambda: Association([_context(source) for _ in range(source.randrange(1, 140))]).body(),
        lambda: Association(wire.contexts(), called=_noise(source, 16)).body(),
        lambda: Association(wire.contexts(), calling=_noise(source, 16)).body(),
        lambda: Association(wire.contexts(), version=source.choice([0, 2, 3, 0xFFFF])).body(),
        lambda: Association(wire.contexts(), application=_noise(source, source.randrange(100))).body(),
        lambda: Association(wire.contexts(), user=[_item(source) for _ in range(source.randrange(20))]).body(),
        lambda: Association([*wire.contexts(), *(_item(source) for _ in range(source.randrange(1, 9)))]).body(),
        lambda: Association(wire.contexts(), user=[wire.item(0x51, _noise(source, source.randrange(9)))]).body(),
        lambda: Association(wire.contexts(), user=[_roles(source) for _ in range(source.randrange(1, 9))]).body(),
        lambda: Association(wire.contexts(), user=[_identity(source)]).body(),
        lambda: Association(wire.contexts()).body() + bytes(source.randrange(1 << 20)),
        lambda: Association(wire.contexts()).body()[: source.randrange(200)],
    ]
    body = source.choice(shapes)()
    if source.random() < 0.5:
        body = _mutated(source, body)
    claimed = source.choice(_LENGTHS) if source.random() < 0.1 else None
    return wire.pdu(wire.A_ASSOCIATE_RQ, body, claimed) + _echo() + RELEASE


def _pdus(source: Source) -> bytes:
    """PDUs in the wrong order, of no type, of no or any length."""
    first = wire.associate() if source.random() < 0.7 else b""
    parts: list[Callable[[], bytes]] = [
        lambda: wire.pdu(source.randrange(256), _noise(source, source.randrange(200))),
        lambda: wire.pdu(source.randrange(1, 8), _noise(source, source.randrange(40)), source.choice(_LENGTHS)),
        lambda: wire.pdu(P_DATA_TF, bytes(source.randrange(200_000)), source.choice(_LENGTHS)),
        lambda: wire.pdu(wire.A_RELEASE_RP, bytes(4)),
        lambda: wire.pdu(wire.A_ABORT, bytes(source.randrange(8))),
        lambda: wire.pdu(wire.A_ASSOCIATE_AC, Association(wire.contexts()).body()),
        wire.associate,
        lambda: RELEASE,
        _echo,
        lambda: b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
        lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + _noise(source, 508),
        lambda: _noise(source, source.randrange(1, 2000)),
    ]
    return first + b"".join(source.choice(parts)() for _ in range(source.randrange(5)))


def _messages(source: Source) -> bytes:
    """Command sets and fragments that contradict themselves, each other or the association."""
    instance = _instance(source)
    elements = wire.store_request(instance) if source.random() < 0.6 else wire.echo_request()
    data_set = wire.image(instance)
    shapes: list[Callable[[], bytes]] = [
        lambda: _send(wire.command(source.sample(elements, source.randrange(len(elements)))), data_set),
        lambda: _send(wire.command(elements, source.choice(_LENGTHS)), data_set),
        lambda: _send(wire.command(source.sample(elements * 3, source.randrange(3, 12))), data_set),
        lambda: _send(wire.command([*elements, *_unknown(source)]), data_set),
        lambda: _send(wire.command([_changed(source, each) for each in elements]), data_set),
        lambda: _send(_mutated(source, wire.command(elements)), data_set),
        lambda: _send(wire.command(elements) * source.randrange(2, 200), data_set),
        lambda: wire.fragmented(3, data_set),
        lambda: wire.data(3, LAST_DATA, data_set) + wire.data(3, LAST_COMMAND, wire.command(elements)),
        lambda: wire.data(source.randrange(256), LAST_COMMAND, wire.command(elements)) + wire.fragmented(3, data_set),
        lambda: wire.data(3, LAST_COMMAND, wire.command(elements)) + wire.fragmented(source.randrange(256), data_set),
        lambda: wire.data(3, LAST_COMMAND, wire.command(elements), source.choice(_LENGTHS)),
        lambda: wire.data(3, source.randrange(256), wire.command(elements)) + wire.fragmented(3, data_set),
        lambda: b"".join(wire.data(3, LAST_COMMAND, wire.command(elements)) for _ in range(source.randrange(2, 20))),
        lambda: b"".join(wire.data(3, wire.COMMAND, _noise(source, 4000)) for _ in range(source.randrange(2, 40))),
        lambda: b"".join(wire.data(3, DATA, b"") for _ in range(source.randrange(2, 400))),
        lambda: wire.pdu(P_DATA_TF, b"".join(wire.pdv(3, LAST_COMMAND, wire.command(elements)) for _ in range(9))),
        lambda: wire.data(3, LAST_COMMAND, wire.command(elements)) + wire.data(3, DATA, data_set) + RELEASE,
        lambda: wire.data(3, LAST_COMMAND, wire.command(elements)) + wire.data(3, DATA, data_set),
    ]
    return wire.associate() + source.choice(shapes)() + RELEASE


def _data_sets(source: Source) -> bytes:
    """Data sets that are deeper, longer, shorter or other than they say."""
    instance = _instance(source)
    shapes: list[Callable[[], bytes]] = [
        lambda: wire.image(instance, _nested(source.choice([3, 40, 400, 3000]))),
        lambda: wire.image(instance, _nested_explicitly(source.choice([3, 40, 400]))),
        lambda: wire.image(instance, _claiming(source)),
        lambda: wire.image(instance) + _claiming(source),
        lambda: wire.image(instance)[: source.randrange(len(wire.image(instance)))],
        lambda: _mutated(source, wire.image(instance)),
        lambda: wire.image(instance, *(_any_element(source) for _ in range(source.randrange(1, 40)))),
        lambda: wire.image(instance, b"".join(wire.explicit(9, 0x10, b"LO", b"FUZZ") for _ in range(3000))),
        lambda: wire.image(instance, wire.explicit(0x0010, 0x0010, b"PN", _noise(source, 60000))),
        lambda: wire.image(instance, wire.explicit(0x0008, 0x0005, b"CS", source.choice(_CHARACTER_SETS))),
        lambda: wire.image(instance, wire.explicit(0x0028, 0x0008, b"IS", b"9" * 60000)),
        lambda: wire.image(instance, wire.explicit(0x0008, 0x2218, b"SQ", _noise(source, 300), 0xFFFFFFFF)),
        lambda: _noise(source, source.randrange(5000)),
        lambda: b"",
    ]
    contexts = [wire.EXPLICIT_ID, wire.EXPLICIT_ID, wire.IMPLICIT_ID, wire.BIG_ENDIAN_ID]
    return wire.associate() + wire.store(source.choice(contexts), instance, source.choice(shapes)()) + RELEASE


def _deflated(source: Source) -> bytes:
    """Deflated data sets: bombs, cut off, damaged, and none."""
    instance = _instance(source)
    shapes: list[Callable[[], bytes]] = [
        lambda: _bomb(wire.image(instance), source.choice([1, 1, 1, 1, 20, 20, 300])),
        lambda: _deflate(wire.image(instance)),
        lambda: _deflate(wire.image(instance))[: source.randrange(100)],
        lambda: _mutated(source, _deflate(wire.image(instance))),
        lambda: _deflate(wire.image(instance)) + _noise(source, 500),
        lambda: _deflate(_deflate(wire.image(instance))),
        lambda: zlib.compress(wire.image(instance)),
        lambda: _deflate(wire.image(instance, _nested(400))),
        lambda: wire.image(instance),
    ]
    return wire.associate() + wire.store(wire.DEFLATED_ID, instance, source.choice(shapes)()) + RELEASE


def _identifiers(source: Source) -> bytes:
    """UIDs that are to become the names of files and addresses, in the command, in the data set, or in both."""
    trick, honest = source.choice(_TRICKS), _instance(source)
    shapes: list[Callable[[], bytes]] = [
        lambda: wire.store(3, trick, wire.image(trick)),
        lambda: wire.store(3, trick, wire.image(honest)),
        lambda: wire.store(3, honest, wire.image(trick)),
        lambda: wire.store(3, honest, wire.image(honest, study=trick)),
        lambda: wire.store(3, honest, wire.image(honest, series=trick)),
        lambda: _send(wire.command(wire.store_request(honest, sop_class=trick)), wire.image(honest)),
    ]
    return wire.associate() + source.choice(shapes)() + RELEASE


def _recorded(source: Source) -> bytes:
    """What DCMTK once sent, with some of it changed, lost, doubled or moved."""
    return _mutated(source, source.choice(_recordings()))


CLASSES: dict[str, Callable[[Source], bytes]] = {
    "association": _associations,
    "pdu": _pdus,
    "message": _messages,
    "data set": _data_sets,
    "deflated": _deflated,
    "identifier": _identifiers,
    "recorded": _recorded,
}

_CHARACTER_SETS = [b"ISO 2022 IR 87", b"GB18030", b"ISO_IR 192\\ISO_IR 100", b"\\\\\\\\", b"NO SUCH SET", b"\xff\xff"]


@cache
def _recordings() -> list[bytes]:
    return [path.read_bytes() for path in sorted(_CORPUS.glob("*.pdus"))]


def _instance(source: Source) -> str:
    return f"2.25.{source.getrandbits(100)}"


def _noise(source: Source, size: int) -> bytes:
    return source.randbytes(size)


def _echo() -> bytes:
    return wire.data(wire.ECHO_ID, LAST_COMMAND, wire.command(wire.echo_request()))


def _send(command: bytes, data_set: bytes) -> bytes:
    return wire.data(wire.EXPLICIT_ID, LAST_COMMAND, command) + wire.fragmented(wire.EXPLICIT_ID, data_set)


def _context(source: Source) -> bytes:
    abstract = source.choice([wire.DX.encode(), wire.VERIFICATION.encode(), _noise(source, source.randrange(70))])
    transfers = [source.choice([wire.EXPLICIT.encode(), _noise(source, 20), b""]) for _ in range(source.randrange(5))]
    return wire.context(source.randrange(256), abstract, transfers)


def _item(source: Source) -> bytes:
    claimed = source.choice(_LENGTHS) if source.random() < 0.3 else None
    return wire.item(source.randrange(256), _noise(source, source.randrange(60)), claimed)


def _roles(source: Source) -> bytes:
    length = source.choice([0, 5, 19, 65535])
    return wire.item(0x54, struct.pack(">H", length) + _noise(source, source.randrange(30)))


def _identity(source: Source) -> bytes:
    """User identity negotiation (PS3.7 D.3.3.7)."""
    return wire.item(0x58, bytes((source.randrange(256), 1)) + struct.pack(">H", 9) + b"user" + _noise(source, 20))


def _unknown(source: Source) -> list[bytes]:
    return [
        wire.element(source.choice([0, 8, 0xFFFF]), source.randrange(65536), _noise(source, source.randrange(40)))
        for _ in range(source.randrange(1, 9))
    ]


def _changed(source: Source, element: bytes) -> bytes:
    """The element with another value or another length."""
    if source.random() < 0.6:
        return element
    group, number = struct.unpack_from("<HH", element)
    claimed = source.choice(_LENGTHS) if source.random() < 0.3 else None
    return wire.element(group, number, _noise(source, source.randrange(70)), claimed)


def _nested(depth: int) -> bytes:
    """Sequences of undefined length in one another; the innermost is never closed."""
    return struct.pack("<HH2sHLHHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) * depth


def _nested_explicitly(depth: int) -> bytes:
    """Sequences of stated length in one another, in what routing looks at."""
    content = b""
    for _ in range(depth):
        content = wire.explicit(0x0008, 0x2218, b"SQ", wire.element(0xFFFE, 0xE000, content))
    return content


def _claiming(source: Source) -> bytes:
    """An element that claims up to 4 GB and brings some bytes."""
    vr = source.choice([b"OB", b"OW", b"UN", b"UT", b"SQ"])
    tag = source.choice([(0x0008, 0x2218), (0x0011, 0x1001), (0x7FE0, 0x0010), (0x0028, 0x3010)])
    return wire.explicit(*tag, vr, _noise(source, source.randrange(500)), source.choice([3 << 30, *_LENGTHS]))


def _any_element(source: Source) -> bytes:
    vr = source.choice([b"UI", b"CS", b"SQ", b"OB", b"DS", b"IS", b"PN", b"AT", b"US", b"FD", b"XX", b"\0\0"])
    group = source.choice([0x0002, 0x0008, 0x0010, 0x0018, 0x0020, 0x0028, 0x0040, 0x2050, source.randrange(65536)])
    return wire.explicit(group, source.randrange(65536), vr, _noise(source, source.randrange(40)))


def _deflate(content: bytes) -> bytes:
    """Raw deflate (PS3.5 A.5)."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


@cache
def _zeros(megabytes: int) -> bytes:
    """An element of that size, deflated: a thousandth of it."""
    return _deflate(wire.explicit(0x0011, 0x1001, b"OB", b"", megabytes << 20) + bytes(megabytes << 20))


def _bomb(content: bytes, megabytes: int) -> bytes:
    # After a full flush another stream may follow.
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush(zlib.Z_FULL_FLUSH) + _zeros(megabytes)


def _mutated(source: Source, content: bytes) -> bytes:
    """Some bytes changed, lost, doubled, moved or replaced by lengths."""
    changed = bytearray(content)
    for _ in range(source.choice([1, 1, 2, 4, 16])):
        if not changed:
            break
        at, size = source.randrange(len(changed)), source.choice([1, 1, 2, 4, 16, 200])
        match source.randrange(6):
            case 0:
                changed[at] ^= 1 << source.randrange(8)
            case 1:
                changed[at : at + size] = _noise(source, size)
            case 2:
                del changed[at : at + size]
            case 3:
                changed[at:at] = changed[at : at + size] * source.choice([1, 1, 50])
            case 4:
                other = source.randrange(len(changed))
                changed[other:other] = changed[at : at + size]
            case _:
                order = source.choice([">", "<"])
                changed[at : at + 4] = struct.pack(f"{order}L", source.choice(_LENGTHS))
    return bytes(changed)
