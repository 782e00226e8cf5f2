"""`chexnode storage`: how much space there is, and what retention has removed and may remove."""

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from node.intake.quarantine_entries import quarantine_count
from node.ledger.ledger import open_ledger
from node.page.words import clock
from node.storage.retention import count_removable, oldest_kept, space
from node.storage.stores import own_store
from schemas.settings import load_settings
from schemas.tables import Study

_GB = 1e9


@click.group("storage")
def storage_group() -> None:
    """The object store: space and retention."""


@storage_group.command("status")
def status_command() -> None:
    """Show the space, what is kept and what may go. Status 1 below the space that is to be kept free."""
    settings, console = load_settings(), Console()
    storage = settings.storage
    store = own_store(settings)
    found = space(store)
    with open_ledger(settings).read() as session:
        studies = session.scalar(select(func.count()).select_from(Study)) or 0
        removed = session.scalar(select(func.count()).select_from(Study).where(Study.removed_at.is_not(None))) or 0
        removable, oldest, quarantined = count_removable(session), oldest_kept(session), quarantine_count(session)
    table = Table("what", "how much", show_header=False)
    table.add_row("object store", str(store.root))
    table.add_row("free", f"{found.free / _GB:.1f} of {found.total / _GB:.0f} GB")
    table.add_row("kept free", f"{storage.keep_free_bytes / _GB:.1f} GB" if storage.keep_free_bytes else "not set")
    table.add_row("refused below", f"{storage.minimum_free_bytes / _GB:.1f} GB")
    table.add_row("retention", "not set" if storage.retention_days is None else f"{storage.retention_days:g} days")
    table.add_row("studies with their files", f"{studies - removed}, the oldest of {clock(oldest) or '-'}")
    table.add_row("of these done, and may go", str(removable))
    table.add_row("studies whose files were removed", str(removed))
    table.add_row("in quarantine, never removed", str(quarantined))
    console.print(table)
    if found.free < max(storage.keep_free_bytes, storage.minimum_free_bytes):
        console.print(
            "[yellow]Space is short:[/] give home a larger disk, or set storage.keep_free_bytes and see what is not "
            "delivered (chexnode deliveries list)."
        )
        raise click.exceptions.Exit(1)
