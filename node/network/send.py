"""`chexnode send`: a Storage SCU (PS3.4 annex B) for files, with the peer's own status for each and what it means."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

import click
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom import _config, build_context
from pynetdicom.presentation import PresentationContext
from rich.console import Console
from rich.padding import Padding
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from node.files import expand
from node.network.association import NoAssociation, NoAssociationError, Peer, TimeLimits, associated
from node.network.dicom_tls import ClientTls
from node.network.store_status import explain

#: Contexts of one association (PS3.8 9.3.2.2: odd numbers up to 255).
_CONTEXTS = 128
_LIMITS = TimeLimits(connect=10.0, associate=30.0, answer=60.0)
#: Nothing was sent, because there was no association or no file.
_NOTHING_SENT = 2

_PEM = click.Path(exists=True, dir_okay=False, path_type=Path)

#: SOP class and transfer syntax of a file.
_Kind: TypeAlias = tuple[UID, UID]


class SendVerdict(StrEnum):
    """What became of a file, in a word."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_SENT = "not sent"


_STYLES = {SendVerdict.ACCEPTED: "green", SendVerdict.REFUSED: "bold red", SendVerdict.NOT_SENT: "yellow"}


@dataclass(frozen=True)
class Sent:
    """What became of one file."""

    path: Path
    #: The peer's status; None when the file never got to it.
    status: int | None
    #: The peer's comment, or why the file never got to it.
    comment: str = ""
    #: What the sender can do, where the status does not say.
    advice: str = ""

    @property
    def accepted(self) -> bool:
        """Success or a warning, with which the object is stored all the same (PS3.4 B.2.3)."""
        return self.status is not None and (self.status == 0 or self.status >> 12 == 0xB)

    @property
    def verdict(self) -> SendVerdict:
        if self.status is None:
            return SendVerdict.NOT_SENT
        return SendVerdict.ACCEPTED if self.accepted else SendVerdict.REFUSED

    @property
    def meaning(self) -> str:
        """What the status means; "" without one."""
        return "" if self.status is None else explain(self.status).words

    @property
    def to_do(self) -> str:
        """What the sender can do; "" when all is well."""
        return self.advice or ("" if self.status is None else explain(self.status).to_do)


def send_files(
    files: Sequence[Path],
    host: str,
    port: int,
    called: str,
    calling: str,
    *,
    tls: ClientTls | None = None,
    progress: bool = False,
) -> list[Sent]:
    """Send every file, over one association where its 128 presentation contexts suffice; unreadable ones are reported.

    Raises NoAssociationError (a PeerError) when the first association cannot be made, SettingsError when a file for
    TLS is not usable.
    """
    kinds: dict[Path, _Kind] = {}
    outcome: dict[Path, Sent] = {}
    for path in files:
        kind = _kind(path)
        if isinstance(kind, Sent):
            outcome[path] = kind
        else:
            kinds[path] = kind
    peer = Peer(host, port, called, calling, tls)
    console = Console()
    with Progress(console=console, disable=not (progress and console.is_terminal), transient=True) as bar:
        task = bar.add_task("sending", total=len(kinds))
        for sent in _send(kinds, peer):
            outcome[sent.path] = sent
            bar.advance(task)
    return [outcome[path] for path in files]


def _kind(path: Path) -> _Kind | Sent:
    """SOP class and transfer syntax, or why the file cannot be sent."""
    advice = "Name DICOM Part 10 files, or folders that hold them."
    try:
        header = dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True)
        return UID(header.SOPClassUID), UID(header.file_meta.TransferSyntaxUID)
    except InvalidDicomError:
        return Sent(path, None, "no DICOM Part 10 file", advice)
    except OSError as error:
        return Sent(path, None, error.strerror or str(error), "Check that the file is there and readable.")
    except AttributeError:
        return Sent(path, None, "without SOP Class UID or Transfer Syntax UID", advice)
    except Exception as error:  # noqa: BLE001 - a damaged file fails in many ways, and must stop no other
        return Sent(path, None, f"cannot be read: {type(error).__name__}", advice)


def _send(kinds: dict[Path, _Kind], peer: Peer) -> Iterator[Sent]:
    distinct = sorted(set(kinds.values()))
    for start in range(0, len(distinct), _CONTEXTS):
        batch = set(distinct[start : start + _CONTEXTS])
        paths = [path for path, kind in kinds.items() if kind in batch]
        contexts = [build_context(*kind) for kind in sorted(batch)]
        try:
            yield from _send_over_one(paths, kinds, peer, contexts)
        except NoAssociationError as error:
            if start == 0:
                raise
            yield from (Sent(path, None, error.detail, error.to_do) for path in paths)


def _send_over_one(
    paths: Sequence[Path], kinds: dict[Path, _Kind], peer: Peer, contexts: Sequence[PresentationContext]
) -> Iterator[Sent]:
    # Read as a whole before it is sent: what is damaged is told of here, and not by the peer.
    _config.STORE_SEND_CHUNKED_DATASET = False
    with associated(peer, contexts, _LIMITS) as association:
        accepted = {(context.abstract_syntax, context.transfer_syntax[0]) for context in association.accepted_contexts}
        for path in paths:
            if association.is_established:
                yield _send_one(association, path, *kinds[path], agreed=kinds[path] in accepted)
            else:
                advice = "Look at the peer's log, then send it again."
                yield Sent(path, None, "the association broke off before", advice)


def _send_one(association: Any, path: Path, sop_class: UID, transfer_syntax: UID, *, agreed: bool) -> Sent:
    try:
        status = association.send_c_store(path)
    except Exception as error:  # noqa: BLE001 - a damaged file fails in many ways, and must stop no other
        # Without a context of its own a file may still go over another one: uncompressed syntaxes are converted.
        if isinstance(error, ValueError) and not agreed:
            return Sent(
                path,
                None,
                f"the peer does not accept {sop_class.name} in {transfer_syntax.name}",
                "Enable that SOP class and transfer syntax at the peer, or convert the file (dcmconv, gdcmconv --raw).",
            )
        advice = "Check the file (dcmdump, dciodvfy): it may be cut off or damaged."
        return Sent(path, None, f"cannot be sent: {type(error).__name__}: {error}", advice)
    code = status.get("Status")
    if code is None:
        advice = "Look at the peer's log, then send it again."
        return Sent(path, None, "no answer; it may be stored all the same", advice)
    return Sent(path, int(code), str(status.get("ErrorComment", "")))


@click.command("send")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--to", "address", default="CHEXNODE@127.0.0.1:11112", show_default=True, help="AE@HOST:PORT of the peer."
)
@click.option("--as", "calling", default="CHEXSEND", show_default=True, help="Calling AE title.")
@click.option("--tls", is_flag=True, help="Over TLS (the usual port is 2762).")
@click.option("--ca", type=_PEM, help="Authorities behind the peer's certificate (PEM); otherwise the system's.")
@click.option("--certificate", type=_PEM, help="Own certificate, where the peer asks for one (PEM).")
@click.option("--key", type=_PEM, help="Its key, where it is in a file of its own (PEM).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document for scripts, and nothing else.")
def send_command(
    files: tuple[Path, ...],
    address: str,
    calling: str,
    tls: bool,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Send DICOM FILES (folders are searched) by C-STORE, and say what became of each and what to do.

    Status 0 when every file was accepted (with or without a warning), 1 when any was not, 2 when there was no
    association or nothing to send.
    """
    called, host, port = _parse_peer(address)
    if not tls and (ca or certificate or key):
        raise click.UsageError("--ca, --certificate and --key belong to --tls")
    if key and not certificate:
        raise click.UsageError("--key belongs to --certificate")
    over = ClientTls(ca, certificate, key) if tls else None
    started = time.monotonic()
    try:
        sent = send_files(expand(files), host, port, called, calling, tls=over, progress=not as_json)
    except NoAssociationError as error:
        _say_why_not(str(error), error.to_do, error.reason, as_json)
        raise click.exceptions.Exit(_NOTHING_SENT) from error
    except click.ClickException as error:
        _say_why_not(error.message, "Name DICOM Part 10 files, or folders that hold them.", None, as_json)
        raise click.exceptions.Exit(_NOTHING_SENT) from error
    seconds = time.monotonic() - started
    if as_json:
        click.echo(json.dumps(_document(sent, address, seconds), indent=2))
    else:
        _show(sent, address, seconds, Console())
    verdicts = {each.verdict for each in sent}
    if verdicts == {SendVerdict.NOT_SENT}:
        raise click.exceptions.Exit(_NOTHING_SENT)
    if verdicts != {SendVerdict.ACCEPTED}:
        raise click.exceptions.Exit(1)


def _say_why_not(message: str, to_do: str, reason: NoAssociation | None, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"error": message, "reason": reason, "to_do": to_do}, indent=2))
    console = Console(stderr=True)
    console.print(Text.assemble(("chexnode: ", "bold red"), message), soft_wrap=True)
    console.print(Text(f"What to do: {to_do}"), soft_wrap=True)


def _show(sent: Sequence[Sent], address: str, seconds: float, console: Console) -> None:
    table = Table("file", "verdict", "status", "what it means")
    for each in sent:
        status = "" if each.status is None else f"0x{each.status:04X}"
        words = ": ".join(part for part in (each.meaning, each.comment) if part)
        table.add_row(Text(each.path.name), Text(each.verdict, _STYLES[each.verdict]), status, Text(words))
    console.print(table)
    advice = Counter(each.to_do for each in sent if each.to_do)
    if advice:
        console.print("[bold]What to do[/]")
    for to_do, count in advice.most_common():
        console.print(Text(f"{count} {'file' if count == 1 else 'files'}", "dim"))
        console.print(Padding(Text(to_do), (0, 0, 0, 2), expand=False))
    console.print(Text(f"{_counts(sent)} of {len(sent)} by {address} in {seconds:.1f} s"))


def _counts(sent: Sequence[Sent]) -> str:
    counts = Counter(each.verdict for each in sent)
    return ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in SendVerdict if counts[verdict])


def _document(sent: Sequence[Sent], address: str, seconds: float) -> dict[str, object]:
    counts = Counter(each.verdict for each in sent)
    return {
        "peer": address,
        "seconds": round(seconds, 3),
        **{verdict.value.replace(" ", "_"): counts[verdict] for verdict in SendVerdict},
        "files": [
            {
                "file": str(each.path),
                "verdict": each.verdict,
                "status": None if each.status is None else f"0x{each.status:04X}",
                "meaning": each.meaning,
                "comment": each.comment,
                "to_do": each.to_do,
            }
            for each in sent
        ],
    }


def _parse_peer(text: str) -> tuple[str, str, int]:
    called, at, address = text.partition("@")
    host, colon, port = address.rpartition(":")
    if not (called and at and host and colon and port.isdigit() and 0 < int(port) < 1 << 16):
        raise click.BadParameter(f"{text!r} is not AE@HOST:PORT", param_hint="--to")
    return called, host, int(port)
