"""Does our own receiver answer a sender that it is to let in? (Verification, PS3.4 annex A)"""

import socket
import time
from collections.abc import Iterator

from pynetdicom import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from sqlalchemy.exc import SQLAlchemyError

from node.doctor.parts import how_to_start
from node.doctor.reach_ledger import LedgerUnavailableError, reach_ledger
from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok, skipped
from node.monitoring.presence import present_processes
from node.network.association import NoAssociation, NoAssociationError, Peer, TimeLimits, associated
from schemas.allowed_caller import parse_address, parse_caller
from schemas.settings import Settings

LIMITS = TimeLimits(connect=3.0, associate=5.0, answer=5.0)
_EVERY_INTERFACE = {"0.0.0.0", ""}


def receiver_subject(settings: Settings) -> Subject:
    """Checks of the receiver of this host."""

    def examine(judge: Judge) -> Iterator[Verdict]:
        yield judge("receiver.echo", lambda: _echo(settings))

    return Subject("receiver", ("echo",), examine)


def echo(peer: Peer) -> tuple[int | None, float, str]:
    """Status of a C-ECHO (None: no answer), seconds, and the peer's implementation version name.

    Raises NoAssociationError.
    """
    started = time.monotonic()
    with associated(peer, [build_context(Verification)], LIMITS) as association:
        status = association.send_c_echo().get("Status")
        version = association.acceptor.implementation_version_name
    return status, time.monotonic() - started, str(version or "")


def _echo(settings: Settings) -> Finding:
    dicom = settings.dicom
    if not dicom.calling_ae_titles:
        return skipped("no calling AE title is allowed (settings.senders), so nobody could be answered")
    if not dicom.plain:
        return skipped("it is served over TLS only: chexnode send --tls asks it from a sender's side")
    host = "127.0.0.1" if dicom.host in _EVERY_INTERFACE else dicom.host
    calling = _may_call_from(host, dicom.calling_ae_titles)
    if calling is None:
        return skipped("no entry of dicom.calling_ae_titles lets this host itself in")
    peer = Peer(host, dicom.port, dicom.ae_title, calling)
    try:
        status, seconds, version = echo(peer)
    except NoAssociationError as error:
        if error.reason == NoAssociation.UNREACHABLE:
            return _nobody_listens(peer, settings)
        if error.reason in (NoAssociation.CALLING_AE_TITLE, NoAssociation.CALLED_AE_TITLE):
            to_do = "It was started with other settings: restart chexnode node. Or it is another node: see ports.dicom."
            return failed(error.detail, to_do)
        to_do = "ports.dicom says who has the port; if it is our own node, restart it and look at its log."
        return failed(error.detail, to_do)
    if not version.startswith("CHEXNODE"):
        return failed(
            f"{peer} answers, but it is not CheXNode ({version or 'it does not say what it is'})",
            "Stop it, or set dicom.port (CHEXNODE_DICOM__PORT) to a free port.",
        )
    if status != 0:
        said = "nothing" if status is None else f"0x{status:04X}"
        return failed(f"{peer} answers C-ECHO with {said}", "Look at the node's log.")
    return ok(f"{peer} ({version}) answers C-ECHO of {peer.calling} in {seconds * 1e3:.0f} ms")


def _may_call_from(host: str, allowed: list[str]) -> str | None:
    """A calling AE title that is let in from this host; None when there is none."""
    try:
        # Whom we call at one of our own addresses is called from the same one.
        address = parse_address(socket.gethostbyname(host))
    except (OSError, ValueError):
        return parse_caller(allowed[0]).title
    callers = map(parse_caller, allowed)
    return next((each.title for each in callers if each.includes(each.title, address)), None)


def _nobody_listens(peer: Peer, settings: Settings) -> Finding:
    try:
        with reach_ledger(settings) as ledger, ledger.read() as session:
            present = present_processes(session)
    except (LedgerUnavailableError, SQLAlchemyError):
        present = []
    elsewhere = sorted({each.host for each in present if each.role == "node"} - {socket.gethostname()})
    if elsewhere:
        return skipped(f"the node runs on {', '.join(elsewhere)}: run the doctor there for this check")
    return failed(
        f"nobody listens on {peer.host}:{peer.port}, so nothing is received", how_to_start("node", present, settings)
    )
