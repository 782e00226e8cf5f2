"""An association as its requestor asks for it (PS3.8 section 7.1), and in words why there is none.

Used by `chexnode send` and `chexnode doctor`.
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.presentation import PresentationContext

from schemas.errors import PeerError


class NoAssociation(StrEnum):
    """Why there is no association."""

    UNKNOWN_HOST = "unknown host"
    #: Nobody listens at that port, or nothing comes back from that host.
    UNREACHABLE = "unreachable"
    #: Somebody takes the connection but does not answer A-ASSOCIATE-RQ.
    NO_ANSWER = "no answer"
    CALLING_AE_TITLE = "calling AE title not recognised"
    CALLED_AE_TITLE = "called AE title not recognised"
    #: Rejected for another reason (PS3.8 table 9-21).
    REJECTED = "rejected"
    #: Accepted, but none of the presentation contexts.
    NO_CONTEXT = "no presentation context accepted"


class NoAssociationError(PeerError):
    """There is no association with the DICOM peer."""

    def __init__(self, reason: NoAssociation, detail: str, to_do: str) -> None:
        super().__init__(detail)
        self.reason = reason
        #: What the user can do.
        self.to_do = to_do


@dataclass(frozen=True)
class Peer:
    """Whom to call, and as whom."""

    host: str
    port: int
    #: AE title of the peer.
    called: str
    #: Our own.
    calling: str

    def __str__(self) -> str:
        return f"{self.called} at {self.host}:{self.port}"


@dataclass(frozen=True)
class TimeLimits:
    """How long the peer may take, seconds."""

    #: For the TCP connection.
    connect: float
    #: For the answer to A-ASSOCIATE-RQ and A-RELEASE-RQ.
    associate: float
    #: For the answer to a DIMSE message.
    answer: float


@contextmanager
def associated(peer: Peer, contexts: Sequence[PresentationContext], limits: TimeLimits) -> Iterator[Any]:
    """An established pynetdicom association, released at the end. Raises NoAssociationError."""
    try:
        socket.getaddrinfo(peer.host, peer.port)
    except socket.gaierror as error:
        raise NoAssociationError(
            NoAssociation.UNKNOWN_HOST,
            f"The host {peer.host} is not known: {error.strerror}.",
            "Correct the host name, or enter it in the name service (DNS, /etc/hosts).",
        ) from error
    entity = AE(ae_title=peer.calling)
    entity.connection_timeout = limits.connect
    entity.acse_timeout = limits.associate
    entity.dimse_timeout = limits.answer
    entity.requested_contexts = list(contexts)
    opened: list[object] = []
    handlers: Any = [(evt.EVT_CONN_OPEN, opened.append)]
    association = entity.associate(
        peer.host, peer.port, ae_title=peer.called, max_pdu=128 * 1024, evt_handlers=handlers
    )
    if not association.is_established:
        raise _why_not(association, peer, bool(opened), limits)
    try:
        yield association
    finally:
        association.release()


def _why_not(association: Any, peer: Peer, connected: bool, limits: TimeLimits) -> NoAssociationError:
    if not connected:
        return NoAssociationError(
            NoAssociation.UNREACHABLE,
            f"{peer}: {_tcp_failure(peer, limits.connect)}.",
            "Check host and port, that the peer runs, and that no firewall is in between.",
        )
    answer = association.acceptor.primitive
    if answer is None:
        return NoAssociationError(
            NoAssociation.NO_ANSWER,
            f"{peer} takes the connection but does not answer as a DICOM node.",
            "Check that the port is the peer's DICOM port (not its HTTP port, and without TLS), and look at its log.",
        )
    if answer.result == 0:
        return NoAssociationError(
            NoAssociation.NO_CONTEXT,
            f"{peer} accepts none of the presentation contexts that were proposed.",
            "Enable these SOP classes and transfer syntaxes at the peer, or convert the files.",
        )
    return _rejection(int(answer.result_source), int(answer.diagnostic), peer)


def _rejection(source: int, diagnostic: int, peer: Peer) -> NoAssociationError:
    """The A-ASSOCIATE-RJ in words (PS3.8 table 9-21)."""
    start = f"{peer} rejects"
    # Source 1: the service user, which is the application itself.
    if (source, diagnostic) == (1, 3):
        return NoAssociationError(
            NoAssociation.CALLING_AE_TITLE,
            f"{start} calling AE title {peer.calling}.",
            f"Add {peer.calling} to the AE titles that the peer lets in "
            "(CheXNode: dicom.calling_ae_titles; Orthanc: DicomModalities), or call it by one that it knows.",
        )
    if (source, diagnostic) == (1, 7):
        return NoAssociationError(
            NoAssociation.CALLED_AE_TITLE,
            f"{start} called AE title {peer.called}.",
            "Call it by its own AE title (CheXNode: dicom.ae_title; Orthanc: DicomAet).",
        )
    if source == 3:
        return NoAssociationError(
            NoAssociation.REJECTED,
            f"{start} it at present: {'too many associations' if diagnostic == 2 else 'it is congested'}.",
            "Try again later; when it stays so, raise the number of associations that the peer allows.",
        )
    return NoAssociationError(
        NoAssociation.REJECTED,
        f"{start} it without a reason that helps (source {source}, reason {diagnostic}; PS3.8 table 9-21).",
        "Check both AE titles, and look at the peer's log.",
    )


def _tcp_failure(peer: Peer, seconds: float) -> str:
    """Why there was no TCP connection: pynetdicom knows but does not say."""
    try:
        with socket.create_connection((peer.host, peer.port), timeout=seconds):
            return "the connection broke off"
    except ConnectionRefusedError:
        return "nobody answers, the connection is refused"
    except TimeoutError:
        return f"nobody answers within {seconds:g} s"
    except OSError as error:
        return f"nobody answers, {(error.strerror or str(error)).lower()}"
