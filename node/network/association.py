"""An association as its requestor asks for it (PS3.8 section 7.1), and in words why there is none.

Used by `chexnode send` and `chexnode doctor`.
"""

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

from node.network.dicom_tls import ClientTls, client_context
from schemas.errors import PeerError


class NoAssociation(StrEnum):
    """Why there is no association."""

    UNKNOWN_HOST = "unknown host"
    #: Nobody listens at that port, or nothing comes back from that host.
    UNREACHABLE = "unreachable"
    #: Somebody takes the connection, but TLS does not come about: no TLS there, or a certificate that is not trusted.
    NO_TLS = "no TLS"
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
    #: Over TLS, as this says; None: without.
    tls: ClientTls | None = None

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
def associated(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    limits: TimeLimits,
    *,
    handlers: Sequence[tuple[Any, Callable[[Any], Any]]] = (),
    roles: Sequence[Any] = (),
) -> Iterator[Any]:
    """An established pynetdicom association, released at the end.

    Raises NoAssociationError, or SettingsError when a file for TLS is not usable.

    Parameters
    ----------
    handlers
        Of pynetdicom's events: for what the peer asks of us on it.
    roles
        SCP/SCU role selections (pynetdicom.build_role), where we are more than an SCU.
    """
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
    tls = None if peer.tls is None else client_context(peer.tls)
    association = entity.associate(
        peer.host,
        peer.port,
        ae_title=peer.called,
        max_pdu=128 * 1024,
        evt_handlers=[(evt.EVT_CONN_OPEN, opened.append), (evt.EVT_CONN_OPEN, _send_at_once), *handlers],
        ext_neg=list(roles),
        tls_args=None if tls is None else (tls, peer.host),
    )
    if not association.is_established:
        raise _why_not(association, peer, bool(opened), limits)
    try:
        yield association
    finally:
        association.release()


def _send_at_once(event: Any) -> None:
    """Without it the kernel keeps the data set back until the peer acknowledges its command, 40 ms for each object."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why_not(association: Any, peer: Peer, connected: bool, limits: TimeLimits) -> NoAssociationError:
    if not connected:
        no_tls = _tls_failure(peer, limits.connect) if peer.tls else None
        if no_tls is not None:
            return NoAssociationError(NoAssociation.NO_TLS, *no_tls)
        return NoAssociationError(
            NoAssociation.UNREACHABLE,
            f"{peer}: {_tcp_failure(peer, limits.connect)}.",
            "Check host and port, that the peer runs, and that no firewall is in between.",
        )
    answer = association.acceptor.primitive
    if answer is None:
        # pynetdicom overlooks a rejection that is there before it has looked whether the connection is.
        overlooked = association.dul.receive_pdu()
        answer = overlooked if isinstance(overlooked, A_ASSOCIATE) else None
    if answer is None:
        return NoAssociationError(
            NoAssociation.NO_ANSWER,
            f"{peer} takes the connection but does not answer as a DICOM node.",
            "Check that the port is the peer's DICOM port (not its HTTP port), whether it wants TLS, and its log.",
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


def _tls_failure(peer: Peer, seconds: float) -> tuple[str, str] | None:
    """What is wrong with TLS and what to do; None when it is not TLS. pynetdicom does not say."""
    assert peer.tls is not None
    try:
        with socket.create_connection((peer.host, peer.port), timeout=seconds) as plain:
            client_context(peer.tls).wrap_socket(plain, server_hostname=peer.host).close()
        return None
    except ssl.SSLCertVerificationError as error:
        return (
            f"{peer} shows a certificate that is not trusted: {error.verify_message}.",
            "Name the authority that signed it (chexnode send --ca), or call the peer by the name in its certificate.",
        )
    except ssl.SSLError as error:
        return (
            f"{peer} speaks no TLS that we do ({error.reason or error}).",
            "Check that the port is its TLS port (2762), that it has TLS 1.2 or later, and whether it asks for a "
            "certificate of ours (chexnode send --certificate, --key).",
        )
    except OSError:
        return None


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
