"""`chexnode send`: a Storage SCU (PS3.4 annex B) for files, with the peer's own status for each."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom import AE, build_context
from rich.console import Console
from rich.progress import track
from rich.table import Table

from node.files import expand
from schemas.errors import PeerError

#: Contexts of one association (PS3.8 9.3.2.2: odd numbers up to 255).
_CONTEXTS = 128


@dataclass(frozen=True)
class Sent:
    """What became of one file."""

    path: Path
    #: The peer's status; None when the file never got to it.
    status: int | None
    comment: str = ""

    @property
    def accepted(self) -> bool:
        """Success or a warning, with which the object is stored all the same (PS3.4 B.2.3)."""
        return self.status is not None and (self.status == 0 or self.status >> 12 == 0xB)


def send_files(
    files: Sequence[Path], host: str, port: int, called: str, calling: str, *, progress: bool = False
) -> list[Sent]:
    """Send every file over one association; unreadable ones are reported, not sent.

    Raises PeerError when the association cannot be made.
    """
    readable: dict[Path, tuple[UID, UID]] = {}
    outcome: dict[Path, Sent] = {}
    for path in files:
        try:
            header = dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True)
            readable[path] = (UID(header.SOPClassUID), UID(header.file_meta.TransferSyntaxUID))
        except (InvalidDicomError, AttributeError, OSError) as error:
            reason = "no DICOM Part 10 file" if isinstance(error, InvalidDicomError) else str(error)
            outcome[path] = Sent(path, None, reason)
    if not readable:
        return [outcome[path] for path in files]

    entity = AE(ae_title=calling)
    entity.requested_contexts = [build_context(*pair) for pair in sorted(set(readable.values()))[:_CONTEXTS]]
    try:
        socket.getaddrinfo(host, port)
    except socket.gaierror as error:
        raise PeerError(f"The host {host} is not known: {error.strerror}.") from error
    association = entity.associate(host, port, ae_title=called, max_pdu=128 * 1024)
    if not association.is_established:
        reason = (
            f"it rejects calling AE title {calling} or called AE title {called}"
            if association.is_rejected
            else "nobody answers"
        )
        raise PeerError(f"No association with {called} at {host}:{port}: {reason}.")
    try:
        for path in track(list(readable), "sending", disable=not progress, transient=True):
            try:
                status = association.send_c_store(path)
                code = status.get("Status")
                outcome[path] = Sent(
                    path, code, str(status.get("ErrorComment", "")) if code is not None else "no answer"
                )
            except (ValueError, RuntimeError) as error:
                outcome[path] = Sent(path, None, str(error))
    finally:
        association.release()
    return [outcome[path] for path in files]


@click.command("send")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--to", "peer", default="CHEXNODE@127.0.0.1:11112", show_default=True, help="AE@HOST:PORT of the peer.")
@click.option("--as", "calling", default="CHEXSEND", show_default=True, help="Calling AE title.")
def send_command(files: tuple[Path, ...], peer: str, calling: str) -> None:
    """Send DICOM FILES (folders are searched) by C-STORE. Status 1 when any was not accepted."""
    called, host, port = _parse_peer(peer)
    sent = send_files(expand(files), host, port, called, calling, progress=True)
    table = Table("file", "status", "comment")
    for each in sent:
        status = "not sent" if each.status is None else f"0x{each.status:04X}"
        table.add_row(each.path.name, f"[{'green' if each.accepted else 'red'}]{status}[/]", each.comment)
    Console().print(table)
    if not all(each.accepted for each in sent):
        raise click.exceptions.Exit(1)


def _parse_peer(text: str) -> tuple[str, str, int]:
    called, at, address = text.partition("@")
    host, colon, port = address.rpartition(":")
    if not (called and at and host and colon and port.isdigit()):
        raise click.BadParameter(f"{text!r} is not AE@HOST:PORT", param_hint="--to")
    return called, host, int(port)
