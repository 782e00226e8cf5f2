"""Throws an input at the node and says how far it came, as its answers tell."""

import socket
import struct
from dataclasses import dataclass
from enum import StrEnum

from tests.fuzz import wire
from tests.fuzz.inputs import Input

#: Within this long the node has answered and closed; it has no reason to wait, since nothing more can come.
LIMIT_SECONDS = 20.0
_HEADER = struct.Struct(">BBL")


class Reached(StrEnum):
    """The furthest state of the protocol that an input reached, by the node's own answers."""

    #: The connection was closed without a word.
    NOTHING = "closed without an answer"
    REJECTED = "association rejected"
    ABORTED = "aborted without association"
    ASSOCIATED = "associated, then closed"
    ASSOCIATED_ABORTED = "associated, then aborted"
    ECHOED = "message answered"
    REFUSED = "object refused by status"
    STORED = "object stored"


class HangError(AssertionError):
    """The node neither answered nor closed the connection."""


@dataclass(frozen=True)
class Thrown:
    """What came of an input."""

    reached: Reached
    #: Of the objects of this connection.
    statuses: list[int]


def throw(thrown: Input, port: int) -> Thrown:
    """Send the input, close our side, and read what comes until the node closes too. Raises HangError."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_SECONDS) as peer:
        try:
            peer.sendall(thrown.content)
            peer.shutdown(socket.SHUT_WR)
            while part := peer.recv(65536):
                received += part
        except TimeoutError as error:
            raise HangError(f"{thrown.kind} {thrown.seed}: neither answered nor closed") from error
        except OSError:
            pass  # reset: it has closed with some of our bytes unread
    return _judge(bytes(received))


def _judge(received: bytes) -> Thrown:
    reached, statuses = Reached.NOTHING, []
    at = 0
    while at + _HEADER.size <= len(received):
        kind, _, length = _HEADER.unpack_from(received, at)
        body = received[at + _HEADER.size : at + _HEADER.size + length]
        at += _HEADER.size + length
        if kind == wire.A_ASSOCIATE_RJ:
            reached = Reached.REJECTED
        elif kind == wire.A_ASSOCIATE_AC:
            reached = Reached.ASSOCIATED
        elif kind == wire.A_ABORT and reached is Reached.NOTHING:
            reached = Reached.ABORTED
        elif kind == wire.A_ABORT and reached is Reached.ASSOCIATED:
            reached = Reached.ASSOCIATED_ABORTED
        elif kind == wire.P_DATA_TF:
            field, status = _response(body)
            reached = Reached.ECHOED
            if field == wire.C_STORE_RQ | 0x8000:
                statuses.append(status)
    if statuses:
        reached = Reached.STORED if 0 in statuses else Reached.REFUSED
    return Thrown(reached, statuses)


def _response(body: bytes) -> tuple[int, int]:
    """Command Field and Status of a response, which fits into one presentation data value."""
    found = {0x0100: 0, 0x0900: 0}
    at = 6
    while at + 8 <= len(body):
        group, number, length = struct.unpack_from("<HHL", body, at)
        if group == 0 and number in found and length == 2:
            (found[number],) = struct.unpack_from("<H", body, at + 8)
        at += 8 + length
    return found[0x0100], found[0x0900]
