"""PDUs over a TCP or TLS connection (PS3.8 9.3): every wait has an end, and no length that a peer claims is believed.

Used by node/acceptor/association.py, from one thread.
"""

import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic

_HEADER = struct.Struct(">BBL")
#: An A-ASSOCIATE-RQ with 128 presentation contexts of 60 transfer syntaxes each stays below.
_LONGEST_OTHER_PDU = 1 << 20
#: sys/time.h struct timeval, for SO_RCVTIMEO and SO_SNDTIMEO.
_TIMEVAL = struct.Struct("@ll")

_TOO_SLOW = "a message takes it longer than dicom.message_timeout_seconds"


class PduType(IntEnum):
    """PS3.8 9.3.1."""

    A_ASSOCIATE_RQ = 0x01
    A_ASSOCIATE_AC = 0x02
    A_ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    A_RELEASE_RQ = 0x05
    A_RELEASE_RP = 0x06
    A_ABORT = 0x07


class AbortReason(IntEnum):
    """Why the provider aborts (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


class ConnectionEndedError(Exception):
    """The peer has closed the connection, or it broke."""


class TooSlowError(Exception):
    """The peer has sent nothing, or a message not whole, in the time it has."""


class ViolationError(Exception):
    """The peer does not keep to the protocol."""

    def __init__(self, message: str, reason: AbortReason) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Pdu:
    """A PDU. Its body is overwritten by the next one."""

    kind: PduType
    body: memoryview


class Connection:
    """One connection.

    Parameters
    ----------
    peer
        A connected socket, wrapped for TLS where that is spoken; it belongs to the connection from then on.
    longest_pdu
        Longest P-DATA-TF that was agreed on, bytes after the header.
    """

    def __init__(self, peer: socket.socket, longest_pdu: int) -> None:
        self._socket = peer
        self._longest_pdu = longest_pdu
        self._buffer = memoryview(bytearray(longest_pdu))
        self._header = memoryview(bytearray(_HEADER.size))
        self._tls = isinstance(peer, ssl.SSLSocket)
        # On a plain socket the kernel waits for the whole PDU, in one call without the interpreter; not so under TLS.
        self._flags = 0 if self._tls else socket.MSG_WAITALL
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._acknowledge_at_once()

    def wait_at_most(self, seconds: float) -> None:
        """How long the peer may be silent, or refuse to take what is sent, from now on."""
        self._silence_seconds = seconds
        if self._tls:
            self._socket.settimeout(seconds)
            return
        self._socket.settimeout(None)
        whole = int(seconds)
        value = _TIMEVAL.pack(whole, max(1, int((seconds - whole) * 1e6)))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def read(self, deadline: float | None, message_seconds: float) -> Pdu:
        """The next PDU.

        `deadline`, on time.monotonic(), is that of the message which it is a part of; None between two messages: then
        `message_seconds` run from its first byte on.
        Raises ConnectionEndedError, TooSlowError or ViolationError.
        """
        self._fill(self._header, monotonic() + 2 * self._silence_seconds)
        code, _, length = _HEADER.unpack(self._header)
        try:
            kind = PduType(code)
        except ValueError:
            raise ViolationError(f"unknown PDU type 0x{code:02X}", AbortReason.UNRECOGNIZED_PDU) from None
        # Also where each fragment comes whole: many small ones may take for ever.
        if kind == PduType.P_DATA_TF and deadline is not None and monotonic() > deadline:
            raise TooSlowError(_TOO_SLOW)
        longest = self._longest_pdu if kind == PduType.P_DATA_TF else _LONGEST_OTHER_PDU
        if length > longest:
            raise ViolationError(f"{kind.name} of {length} bytes, longest {longest}", AbortReason.INVALID_PARAMETER)
        body = self._buffer[:length] if length <= len(self._buffer) else memoryview(bytearray(length))
        self._fill(body, monotonic() + message_seconds if deadline is None else deadline)
        return Pdu(kind, body)

    def write(self, kind: PduType, body: bytes) -> None:
        """Send a PDU in one piece. Raises ConnectionEndedError, or TooSlowError when the peer does not take it."""
        try:
            self._socket.sendall(_HEADER.pack(kind, 0, len(body)) + body)
            # Senders that leave Nagle's algorithm on (DCMTK does) hold the data set of their next message back until
            # its command is acknowledged, which the kernel delays by 40 ms unless asked again after every send.
            self._acknowledge_at_once()
        except (BlockingIOError, TimeoutError) as error:
            raise TooSlowError("it does not take our answer") from error
        except OSError as error:
            raise ConnectionEndedError(error.strerror or str(error)) from error

    def wait_closed(self) -> None:
        """Until the peer has closed the connection, at most twice as long as it may be silent."""
        until = monotonic() + self._silence_seconds
        try:
            while self._socket.recv(4096) and monotonic() < until:
                pass
        except OSError:
            pass

    def break_off(self) -> None:
        """Wake whoever waits in `read` or `write` with ConnectionEndedError. From any thread."""
        with suppress(OSError):
            # Of the socket below TLS: no other thread may use the SSL object meanwhile.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def _fill(self, view: memoryview, deadline: float) -> None:
        """Read until `view` is full."""
        got, size = 0, len(view)
        while got < size:
            if got and monotonic() > deadline:
                raise TooSlowError(_TOO_SLOW)
            try:
                count = self._socket.recv_into(view[got:], 0, self._flags)
            except (BlockingIOError, TimeoutError) as error:
                raise TooSlowError("it is silent for longer than dicom.network_timeout_seconds") from error
            except OSError as error:
                raise ConnectionEndedError(error.strerror or str(error)) from error
            if count == 0:
                raise ConnectionEndedError("closed by the peer")
            got += count

    def _acknowledge_at_once(self) -> None:
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
