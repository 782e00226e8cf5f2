"""The PDUs that make an association: A-ASSOCIATE-RQ, -AC and -RJ (PS3.8 9.3.2 to 9.3.4, annex D; PS3.7 annex D).

Read strictly: what does not add up raises MalformedError, and nothing else is raised, whatever the bytes.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

_APPLICATION_CONTEXT_NAME = "1.2.840.10008.3.1.1.1"
_PROTOCOL_VERSION = 0x0001
#: Protocol version, reserved, called and calling AE title, reserved.
_FIXED = struct.Struct(">HH16s16s32s")
_ITEM = struct.Struct(">BBH")


class MalformedError(Exception):
    """The PDU contradicts itself or PS3.8."""


class Item(IntEnum):
    """Types of items and sub-items."""

    APPLICATION_CONTEXT = 0x10
    PROPOSED_CONTEXT = 0x20
    ANSWERED_CONTEXT = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50
    MAXIMUM_LENGTH = 0x51
    IMPLEMENTATION_CLASS_UID = 0x52
    ROLE_SELECTION = 0x54
    IMPLEMENTATION_VERSION_NAME = 0x55


class ContextResult(IntEnum):
    """What becomes of a proposed presentation context (PS3.8 table 9-18)."""

    ACCEPTANCE = 0
    USER_REJECTION = 1
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True)
class ProposedContext:
    """A presentation context that the requestor proposes."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class AnsweredContext:
    """What the acceptor says to it. The transfer syntax means something with an acceptance only."""

    context_id: int
    abstract_syntax: str
    result: ContextResult
    transfer_syntax: str


@dataclass(frozen=True)
class Roles:
    """SCP/SCU role selection of the requestor for a SOP class (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    scu: bool
    scp: bool


@dataclass(frozen=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ."""

    called_ae_title: str
    calling_ae_title: str
    protocol_version: int
    application_context_name: str
    contexts: tuple[ProposedContext, ...]
    roles: tuple[Roles, ...]
    #: Longest PDU that the requestor takes, bytes; 0: any.
    maximum_length: int
    implementation_class_uid: str
    implementation_version_name: str
    #: Both titles as they came: the answer repeats them.
    titles: bytes

    @property
    def speaks_dicom(self) -> bool:
        """Protocol version 1 with the DICOM application context."""
        return bool(self.protocol_version & _PROTOCOL_VERSION)


def read_request(body: bytes) -> AssociateRequest:
    """The A-ASSOCIATE-RQ whose bytes after PDU type and length are `body`. Raises MalformedError."""
    if len(body) < _FIXED.size:
        raise MalformedError("A-ASSOCIATE-RQ is too short")
    version, _, called, calling, _ = _FIXED.unpack_from(body)
    application, contexts, user = "", [], b""
    for kind, value in _items(body[_FIXED.size :]):
        if kind == Item.APPLICATION_CONTEXT:
            application = _text(value)
        elif kind == Item.PROPOSED_CONTEXT:
            contexts.append(_proposed(value))
        elif kind == Item.USER_INFORMATION:
            user = value
    if len({context.context_id for context in contexts}) < len(contexts):
        raise MalformedError("two presentation contexts have the same ID")
    maximum_length, roles, class_uid, version_name = 0, [], "", ""
    for kind, value in _items(user):
        if kind == Item.MAXIMUM_LENGTH:
            if len(value) != 4:
                raise MalformedError("maximum length item")
            maximum_length = int.from_bytes(value, "big")
        elif kind == Item.ROLE_SELECTION:
            roles.append(_roles(value))
        elif kind == Item.IMPLEMENTATION_CLASS_UID:
            class_uid = _text(value)
        elif kind == Item.IMPLEMENTATION_VERSION_NAME:
            version_name = _text(value)
    return AssociateRequest(
        called_ae_title=_text(called),
        calling_ae_title=_text(calling),
        protocol_version=version,
        application_context_name=application,
        contexts=tuple(contexts),
        roles=tuple(roles),
        maximum_length=maximum_length,
        implementation_class_uid=class_uid,
        implementation_version_name=version_name,
        titles=bytes(called + calling),
    )


def write_accept(
    request: AssociateRequest,
    contexts: Sequence[AnsweredContext],
    roles: Sequence[Roles],
    maximum_length: int,
    implementation_class_uid: str,
    implementation_version_name: str,
) -> bytes:
    """Body of the A-ASSOCIATE-AC to `request`."""
    parts = [struct.pack(">HH", _PROTOCOL_VERSION, 0), request.titles, bytes(32)]
    parts.append(_item(Item.APPLICATION_CONTEXT, _APPLICATION_CONTEXT_NAME.encode()))
    for context in contexts:
        syntax = _item(Item.TRANSFER_SYNTAX, context.transfer_syntax.encode())
        parts.append(_item(Item.ANSWERED_CONTEXT, bytes((context.context_id, 0, context.result, 0)) + syntax))
    user = [
        _item(Item.MAXIMUM_LENGTH, struct.pack(">I", maximum_length)),
        _item(Item.IMPLEMENTATION_CLASS_UID, implementation_class_uid.encode()),
    ]
    for role in roles:
        uid = role.sop_class_uid.encode()
        user.append(_item(Item.ROLE_SELECTION, struct.pack(">H", len(uid)) + uid + bytes((role.scu, role.scp))))
    user.append(_item(Item.IMPLEMENTATION_VERSION_NAME, implementation_version_name.encode()))
    parts.append(_item(Item.USER_INFORMATION, b"".join(user)))
    return b"".join(parts)


def _proposed(value: bytes) -> ProposedContext:
    if len(value) < 4:
        raise MalformedError("presentation context item is too short")
    abstract, transfer = "", []
    for kind, part in _items(value[4:]):
        if kind == Item.ABSTRACT_SYNTAX:
            abstract = _text(part)
        elif kind == Item.TRANSFER_SYNTAX:
            transfer.append(_text(part))
    if value[0] % 2 == 0 or not abstract or not transfer:
        raise MalformedError("a presentation context needs an odd ID, an abstract and a transfer syntax")
    return ProposedContext(value[0], abstract, tuple(transfer))


def _roles(value: bytes) -> Roles:
    length = int.from_bytes(value[:2], "big")
    if len(value) != 2 + length + 2:
        raise MalformedError("role selection item")
    return Roles(_text(value[2 : 2 + length]), bool(value[-2]), bool(value[-1]))


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each item."""
    at = 0
    while at < len(content):
        if at + _ITEM.size > len(content):
            raise MalformedError("an item is cut off")
        kind, _, length = _ITEM.unpack_from(content, at)
        at += _ITEM.size + length
        if at > len(content):
            raise MalformedError("an item is longer than what it is in")
        yield kind, content[at - length : at]


def _item(kind: Item, value: bytes) -> bytes:
    return _ITEM.pack(kind, 0, len(value)) + value


def _text(value: bytes) -> str:
    """Padding is no part of it; what is not ASCII becomes a character that matches nothing."""
    return value.decode("ascii", "replace").strip(" \0")
