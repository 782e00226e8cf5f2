"""DIMSE messages over P-DATA (PS3.7 section 9 and 10, PS3.8 annex E): fragments in, command and data set out.

The data set goes, fragment by fragment, wherever the service wants it: a file, or bounded memory.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from typing import Protocol

from pydicom import Dataset
from pynetdicom.dsutils import decode, encode

from node.acceptor.connection import AbortReason, ViolationError

#: The longest command sets (N-GET with its attribute list) take some hundred bytes.
_LONGEST_COMMAND_SET = 16 << 10
#: A storage commitment request of 10,000 instances takes 1.5 MB.
_LONGEST_DATA_SET = 16 << 20
#: CommandDataSetType: no data set follows (PS3.7 E.1).
_NO_DATA_SET = 0x0101
_PDV = struct.Struct(">LBB")
_COMMAND, _LAST = 1, 2


class CommandField(IntEnum):
    """Command Field (0000,0100) of the messages that matter here; a response has the highest bit set."""

    C_STORE_RQ = 0x0001
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    N_ACTION_RQ = 0x0130
    C_CANCEL_RQ = 0x0FFF


RESPONSE = 0x8000


class Sink(Protocol):
    """Where the data set of a message goes."""

    def write(self, fragment: memoryview) -> None:
        """Take the next fragment, which is overwritten afterwards. Raises ViolationError only."""
        ...

    def discard(self) -> None:
        """The message will not be completed."""
        ...


@dataclass(frozen=True)
class Message:
    """A whole message."""

    context_id: int
    command: Dataset
    #: None: it came without data set.
    data_set: Sink | None

    @property
    def field(self) -> int:
        return int(self.command.CommandField)


class MemorySink:
    """A data set in memory, encoded as it came."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, fragment: memoryview) -> None:
        if len(self.content) + len(fragment) > _LONGEST_DATA_SET:
            raise ViolationError("the data set of a message is too long", AbortReason.NOT_SPECIFIED)
        self.content += fragment

    def discard(self) -> None:
        self.content.clear()


class Assembler:
    """Puts the fragments of one message after the other together.

    Parameters
    ----------
    open_sink
        Gives the sink for the data set that follows a command.
    """

    def __init__(self, open_sink: Callable[[int, Dataset], Sink]) -> None:
        self._open_sink = open_sink
        self._forget()

    @property
    def under_way(self) -> bool:
        """Whether a message has begun and is not whole."""
        return self._context_id is not None

    def feed(self, body: memoryview) -> Iterator[Message]:
        """Take a P-DATA-TF; yields each message that it completes. Raises ViolationError."""
        at = 0
        while at < len(body):
            if at + _PDV.size > len(body):
                raise ViolationError("a presentation data value is cut off", AbortReason.INVALID_PARAMETER)
            length, context_id, header = _PDV.unpack_from(body, at)
            end = at + 4 + length
            if length < 2 or end > len(body):
                raise ViolationError("a presentation data value does not fit", AbortReason.INVALID_PARAMETER)
            message = self._take(context_id, header, body[at + _PDV.size : end])
            if message is not None:
                yield message
            at = end

    def discard(self) -> None:
        """Give up the message under way."""
        if self._sink is not None:
            self._sink.discard()
        self._forget()

    def _forget(self) -> None:
        self._context_id: int | None = None
        self._encoded = bytearray()
        self._command: Dataset | None = None
        self._sink: Sink | None = None

    def _take(self, context_id: int, header: int, fragment: memoryview) -> Message | None:
        if self._context_id is None:
            self._context_id = context_id
        if context_id != self._context_id or bool(header & _COMMAND) != (self._command is None):
            raise ViolationError("fragments of two messages are mixed", AbortReason.UNEXPECTED_PDU)
        if self._command is None:
            return self._take_command(header, fragment)
        assert self._sink is not None
        self._sink.write(fragment)
        return self._done() if header & _LAST else None

    def _take_command(self, header: int, fragment: memoryview) -> Message | None:
        if len(self._encoded) + len(fragment) > _LONGEST_COMMAND_SET:
            raise ViolationError("the command set is too long", AbortReason.INVALID_PARAMETER)
        self._encoded += fragment
        if not header & _LAST:
            return None
        assert self._context_id is not None
        self._command = read_command(bytes(self._encoded))
        if self._command.CommandDataSetType == _NO_DATA_SET:
            return self._done()
        self._sink = self._open_sink(self._context_id, self._command)
        return None

    def _done(self) -> Message:
        assert self._context_id is not None and self._command is not None
        message = Message(self._context_id, self._command, self._sink)
        self._forget()
        return message


def read_command(encoded: bytes) -> Dataset:
    """The command set (always implicit VR little endian). Raises ViolationError when it lacks what each must have."""
    try:
        command = decode(BytesIO(encoded), True, True)
        complete = isinstance(command.CommandField, int) and isinstance(command.CommandDataSetType, int)
        # What will be asked for is converted here: a value that cannot be must not surprise anybody later.
        for element in command:
            str(element.value)
    except Exception as error:
        raise ViolationError("the command set cannot be read", AbortReason.INVALID_PARAMETER) from error
    if not complete:
        raise ViolationError("the command set lacks its field", AbortReason.INVALID_PARAMETER)
    return command


def write_message(context_id: int, command: Dataset, data_set: bytes | None, longest_pdu: int) -> Iterator[bytes]:
    """Bodies of the P-DATA-TF that carry a message; `longest_pdu` is the peer's, 0: any."""
    command.CommandDataSetType = _NO_DATA_SET if data_set is None else 0x0001
    command.CommandGroupLength = 0
    encoded = encode(command, True, True)
    if encoded is None:
        raise ValueError("the command set cannot be encoded")
    # The group length element itself is 12 bytes long, and not counted.
    encoded = encoded[:8] + struct.pack("<L", len(encoded) - 12) + encoded[12:]
    longest = max(longest_pdu - _PDV.size, 1) if longest_pdu else 128 << 10
    parts = [(encoded, _COMMAND)] if data_set is None else [(encoded, _COMMAND), (data_set, 0)]
    for content, kind in parts:
        for start in range(0, max(len(content), 1), longest):
            fragment = content[start : start + longest]
            last = _LAST if start + longest >= len(content) else 0
            yield _PDV.pack(len(fragment) + 2, context_id, kind | last) + fragment
