"""An association from its acceptor's side: the state machine of PS3.8 9.2 as one thread reads it, top to bottom.

Made by node/network/dimse.py for each connection. What a message means is the services'; here is how it comes and goes.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import structlog
from pydicom import Dataset

from node.acceptor.admission import Admission
from node.acceptor.associate import AnsweredContext, ContextResult, MalformedError, read_request, write_accept
from node.acceptor.connection import (
    AbortReason,
    Connection,
    ConnectionEndedError,
    Pdu,
    PduType,
    TooSlowError,
    ViolationError,
)
from node.acceptor.contexts import OfferedContexts
from node.acceptor.message import RESPONSE, Assembler, CommandField, MemorySink, Message, Sink, write_message
from node.monitoring.metrics import ASSOCIATIONS
from schemas.allowed_caller import Address, parse_address
from schemas.settings import DicomSettings

log = structlog.get_logger()

#: For the A-ASSOCIATE-RQ to come, and for the peer to close the connection at the end (PS3.8 9.1.5, ARTIM timer).
_ARTIM_SECONDS = 30.0
_CLOSING_SECONDS = 2.0
#: Source of an A-ABORT: the service provider.
_PROVIDER = 2
#: How an association ends, in the metrics.
_RELEASED, _ABORTED, _BROKEN_OFF = "released", "aborted", "broken_off"
#: PS3.7 annex C.
_UNRECOGNIZED_OPERATION = 0x0211


@dataclass(frozen=True)
class Request:
    """A request of the requestor's."""

    #: Identifies the association among those of this process.
    association: int
    calling_ae_title: str
    address: Address
    message: Message
    context: AnsweredContext


@dataclass(frozen=True)
class Answer:
    """What to respond: elements of the command set beyond those that every response has, with Status."""

    command: Dataset
    #: Encoded in the request's transfer syntax.
    data_set: bytes | None = None


class Service(Protocol):
    """What serves the requests of one Command Field."""

    def open_sink(self, context: AnsweredContext, command: Dataset) -> Sink:
        """Where the data set that follows `command` is to go."""
        ...

    def answer(self, request: Request) -> Answer:
        """Serve the request, whose sink has all of its data set. What it raises aborts the association."""
        ...


class InMemory:
    """A service whose data sets are small."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer

    def open_sink(self, context: AnsweredContext, command: Dataset) -> Sink:
        return MemorySink()


@dataclass(frozen=True)
class Identity:
    """What an A-ASSOCIATE-AC says about us."""

    implementation_class_uid: str
    implementation_version_name: str


@dataclass(frozen=True)
class Acceptor:
    """What every association of a process shares."""

    settings: DicomSettings
    identity: Identity
    admission: Admission
    offered: OfferedContexts
    #: By Command Field.
    services: Mapping[int, Service]
    #: Called with the number of an association that was accepted, and whether it was released in order.
    ended: Callable[[int, bool], None]


class Association:
    """One association. `run` it in a thread of its own; nothing is raised.

    Parameters
    ----------
    number
        Identifies it among those of this process.
    peer, peer_address
        From accept().
    tls
        Where TLS is spoken: the handshake is the first thing that happens.
    """

    def __init__(
        self, acceptor: Acceptor, number: int, peer: socket.socket, peer_address: str, tls: ssl.SSLContext | None
    ) -> None:
        self._acceptor = acceptor
        self._number = number
        self._socket = peer
        self._tls = tls
        self._address = parse_address(peer_address)
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self._in_message = False
        self._contexts: dict[int, AnsweredContext] = {}
        self._calling = ""
        self._longest_pdu = 0
        self._log = log.bind(association=number, address=str(self._address))

    def run(self) -> None:
        try:
            connection = self._connect()
            if connection is not None:
                self._serve(connection)
        except Exception:  # noqa: BLE001 - a fault in one association must not look like a fault of the node
            self._log.exception("association ended by a fault of ours", calling=self._calling)
        finally:
            self._socket.close()
            if self._connection is not None:
                self._connection.close()

    def stop(self) -> None:
        """From another thread: abort it when the message under way is answered, at once when there is none."""
        self._stopping.set()
        if not self._in_message:
            self.break_off()

    def break_off(self) -> None:
        """From another thread: end it at once. What was not answered stays with its sender."""
        self._stopping.set()
        if self._connection is not None:
            self._connection.break_off()

    def _connect(self) -> Connection | None:
        """The connection, with TLS where it is spoken; None when the handshake fails."""
        if self._tls is not None:
            self._socket.settimeout(_ARTIM_SECONDS)
            try:
                self._socket = self._tls.wrap_socket(self._socket, server_side=True)
            except OSError as error:  # SSLError is one
                self._log.warning("no TLS connection", error=_tls_words(error))
                return None
        self._connection = Connection(self._socket, self._acceptor.settings.maximum_pdu_bytes)
        return self._connection

    def _serve(self, connection: Connection) -> None:
        assembler = Assembler(self._open_sink)
        entered, end = False, _ABORTED
        try:
            connection.wait_at_most(_ARTIM_SECONDS)
            entered = self._negotiate(connection)
            if entered:
                connection.wait_at_most(self._acceptor.settings.network_timeout_seconds)
                if self._transfer(connection, assembler):
                    end = _RELEASED
        except (ViolationError, TooSlowError) as error:
            self._log.warning("association aborted", calling=self._calling, why=error)
            reason = error.reason if isinstance(error, ViolationError) else AbortReason.NOT_SPECIFIED
            self._abort(connection, reason)
        except ConnectionEndedError as error:
            end = _BROKEN_OFF
            if self._stopping.is_set():
                self._log.info("association ended, since the node stops", calling=self._calling)
            elif entered:
                self._log.warning("the connection broke off", calling=self._calling, why=error)
        except Exception:
            self._abort(connection, AbortReason.NOT_SPECIFIED)
            raise
        finally:
            assembler.discard()
            if entered:
                self._acceptor.admission.leave(self._address)
                ASSOCIATIONS.labels(end).inc()
                self._acceptor.ended(self._number, end == _RELEASED)
        if end == _RELEASED:
            # The requestor closes (PS3.8 9.2.3, state 13). Told before: its studies need not wait for that.
            connection.wait_at_most(_CLOSING_SECONDS)
            connection.wait_closed()

    def _negotiate(self, connection: Connection) -> bool:
        """Answer the A-ASSOCIATE-RQ; whether there is an association."""
        pdu = connection.read(monotonic() + _ARTIM_SECONDS, 0.0)
        if pdu.kind == PduType.A_ABORT:
            return False
        if pdu.kind != PduType.A_ASSOCIATE_RQ:
            raise ViolationError(f"{pdu.kind.name} before an association", AbortReason.UNEXPECTED_PDU)
        try:
            request = read_request(bytes(pdu.body))
        except MalformedError as error:
            raise ViolationError(str(error), AbortReason.INVALID_PARAMETER) from error
        self._calling = request.calling_ae_title
        rejection = self._acceptor.admission.enter(request, self._address)
        if rejection is not None:
            ASSOCIATIONS.labels("rejected").inc()
            self._log.warning("association rejected", calling=self._calling, why=rejection.words)
            connection.write(PduType.A_ASSOCIATE_RJ, rejection.body)
            connection.wait_at_most(_CLOSING_SECONDS)
            connection.wait_closed()
            return False
        offered, identity = self._acceptor.offered, self._acceptor.identity
        answered = offered.answer(request.contexts)
        self._contexts = {each.context_id: each for each in answered if each.result == ContextResult.ACCEPTANCE}
        self._longest_pdu = request.maximum_length
        body = write_accept(
            request,
            answered,
            offered.roles(request.roles),
            self._acceptor.settings.maximum_pdu_bytes,
            identity.implementation_class_uid,
            identity.implementation_version_name,
        )
        try:
            connection.write(PduType.A_ASSOCIATE_AC, body)
        except Exception:
            self._acceptor.admission.leave(self._address)
            raise
        return True

    def _transfer(self, connection: Connection, assembler: Assembler) -> bool:
        """Serve messages until the association ends; whether it was released."""
        message_seconds = self._acceptor.settings.message_timeout_seconds
        deadline: float | None = None
        while True:
            pdu = connection.read(deadline, message_seconds)
            if pdu.kind == PduType.P_DATA_TF:
                self._in_message = True
                for message in assembler.feed(pdu.body):
                    self._respond(connection, message)
                    deadline = None
                self._in_message = assembler.under_way
                if not self._in_message:
                    deadline = None
                    if self._stopping.is_set():
                        self._log.info("association aborted, since the node stops", calling=self._calling)
                        self._abort(connection, AbortReason.NOT_SPECIFIED)
                        return False
                elif deadline is None:
                    deadline = monotonic() + message_seconds
            elif pdu.kind == PduType.A_RELEASE_RQ:
                # Where it did not wait for the answer it had what it wanted.
                with suppress(ConnectionEndedError, TooSlowError):
                    connection.write(PduType.A_RELEASE_RP, bytes(4))
                return True
            elif pdu.kind == PduType.A_ABORT:
                self._log.info("the peer aborted the association", calling=self._calling, why=_abort_words(pdu))
                return False
            else:
                raise ViolationError(f"{pdu.kind.name} within an association", AbortReason.UNEXPECTED_PDU)

    def _open_sink(self, context_id: int, command: Dataset) -> Sink:
        context = self._context(context_id)
        service = self._acceptor.services.get(int(command.CommandField))
        return MemorySink() if service is None else service.open_sink(context, command)

    def _context(self, context_id: int) -> AnsweredContext:
        context = self._contexts.get(context_id)
        if context is None:
            raise ViolationError(f"presentation context {context_id} was not accepted", AbortReason.UNEXPECTED_PDU)
        return context

    def _respond(self, connection: Connection, message: Message) -> None:
        context = self._context(message.context_id)
        field = message.field
        if field & RESPONSE or field == CommandField.C_CANCEL_RQ:
            # We ask nothing on this association, and nothing of ours goes on long enough to be cancelled.
            return
        if "MessageID" not in message.command:
            raise ViolationError("a request without message ID", AbortReason.INVALID_PARAMETER)
        service = self._acceptor.services.get(field)
        if service is None:
            answer = Answer(Dataset())
            answer.command.Status = _UNRECOGNIZED_OPERATION
        else:
            answer = service.answer(Request(self._number, self._calling, self._address, message, context))
        command = answer.command
        command.CommandField = field | RESPONSE
        command.MessageIDBeingRespondedTo = message.command.MessageID
        for body in write_message(message.context_id, command, answer.data_set, self._longest_pdu):
            connection.write(PduType.P_DATA_TF, body)

    def _abort(self, connection: Connection, reason: AbortReason) -> None:
        try:
            connection.wait_at_most(_CLOSING_SECONDS)
            connection.write(PduType.A_ABORT, bytes((0, 0, _PROVIDER, reason)))
            connection.wait_closed()
        except (ConnectionEndedError, TooSlowError, OSError):
            pass  # there is nobody left to tell


def _abort_words(pdu: Pdu) -> str:
    body = bytes(pdu.body[:4]).ljust(4, b"\0")
    return f"source {body[2]}, reason {body[3]} (PS3.8 9.3.8)"


def _tls_words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or error}"
    return error.strerror or str(error) or "the peer is silent"
