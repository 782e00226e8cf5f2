"""`chexnode quarantine`: what was set aside, why, and its bytes; taking it up again after the cause is mended."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from node.intake.quarantine import correct_patient, retry
from node.intake.quarantine_entries import Entry, EntryName, find_entry, quarantine_entries
from node.ledger.ledger import open_ledger
from node.page.words import clock
from node.storage.object_store import ObjectStore
from node.storage.stores import open_store
from schemas.errors import ChexnodeError, ObjectMissingError
from schemas.settings import load_settings


@click.group("quarantine")
def quarantine_group() -> None:
    """What was set aside with its reason and its bytes: objects that contradict, and work that was given up."""


@quarantine_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document for scripts, and nothing else.")
def list_command(as_json: bool) -> None:
    """List what is in quarantine. Status 1 when there is anything."""
    with open_ledger(load_settings()).read() as session:
        entries = quarantine_entries(session)
    if as_json:
        click.echo(json.dumps([_document(each) for each in entries], indent=2))
    else:
        _show(entries, Console())
    if entries:
        raise click.exceptions.Exit(1)


@quarantine_group.command("retry")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "everything", is_flag=True, help="Everything that is in quarantine.")
@click.option(
    "--patient-is-right",
    "patient_is_right",
    is_flag=True,
    help="You know that the objects' Patient ID is their study's: its other objects are taken for corrected.",
)
def retry_command(names: tuple[str, ...], everything: bool, patient_is_right: bool) -> None:
    """Take entries up again, after the cause was mended. Status 1 when any stays.

    Work is due at once. An object is taken in when it contradicts no longer, for example since the image that it
    contradicted was rejected or came again corrected.
    """
    if everything == bool(names) or (everything and patient_is_right):
        raise click.UsageError("Name entries, as chexnode quarantine list shows them, or --all.")
    settings = load_settings()
    ledger, store, console = open_ledger(settings), open_store(settings), Console()
    if everything:
        with ledger.read() as session:
            names = tuple(str(each.name) for each in quarantine_entries(session))
    stays = 0
    for name in names:
        try:
            (correct_patient if patient_is_right else retry)(ledger, store, settings, EntryName.parse(name))
            console.print(f"{escape(name)}: taken up again")
        except ChexnodeError as error:
            stays += 1
            console.print(f"[yellow]{escape(name)}:[/] {escape(str(error))}", soft_wrap=True)
    if stays:
        raise click.exceptions.Exit(1)


@quarantine_group.command("export")
@click.argument("name")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def export_command(name: str, folder: Path) -> None:
    """Write the bytes of an entry into FOLDER, with its reason beside them.

    They are the files as they were received: they hold the patient's data.
    """
    settings = load_settings()
    with open_ledger(settings).read() as session:
        entry = find_entry(session, EntryName.parse(name))
    written = export(entry, open_store(settings), folder)
    Console().print(f"{len(written)} files are in {folder}; they hold the patient's data", soft_wrap=True)


def export(entry: Entry, store: ObjectStore, folder: Path) -> list[Path]:
    """Write an entry's files into `folder`; returns where they are. Raises ObjectMissingError."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, sha256 in enumerate(entry.files, 1):
        path = folder / f"{entry.name}-{number}.dcm"
        # Read and not linked: what is there must be what was received.
        path.write_bytes(store.get(sha256))
        written.append(path)
    if not written:
        raise ObjectMissingError(f"{entry.name} has no file.")
    (folder / f"{entry.name}.json").write_text(json.dumps(_document(entry), indent=2), encoding="utf-8")
    return written


def _document(entry: Entry) -> dict[str, object]:
    return {**asdict(entry), "name": str(entry.name), "files": list(entry.files)}


def _show(entries: Sequence[Entry], console: Console) -> None:
    if not entries:
        console.print("Nothing is in quarantine.")
        return
    table = Table("name", "since", "attempts", "object", "reason")
    for each in entries:
        uid = each.sop_instance_uid or f"study {each.study_instance_uid}"
        attempts = str(each.attempts) if each.attempts else ""
        table.add_row(str(each.name), clock(each.since), attempts, uid, escape(each.reason))
    console.print(table)
    console.print("After the cause is mended: [bold]chexnode quarantine retry NAME[/]; its bytes: export NAME FOLDER.")
