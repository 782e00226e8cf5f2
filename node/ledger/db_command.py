"""`chexnode db`: create, upgrade, inspect, save and restore the ledger."""

from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import make_url

from node.intake.reception import ReceptionDesk
from node.intake.reconciliation import reconcile
from node.ledger.backup import back_up, restore
from node.ledger.database import current_revision, downgrade, head_revision, upgrade, write_migration
from node.ledger.leases import WORK_TABLES, make_due_again
from node.ledger.ledger import Ledger, open_ledger
from node.ledger.report import recent_problems, status_table
from node.storage.stores import open_store, own_store
from schemas.settings import load_settings
from schemas.tables import TrainingRun


@click.group("db")
def db_group() -> None:
    """Create, upgrade and inspect the ledger (SQLite or PostgreSQL, as the settings say)."""


@db_group.command("upgrade")
@click.argument("revision", default="head")
def upgrade_command(revision: str) -> None:
    """Apply the migrations up to REVISION (default: all)."""
    ledger = open_ledger(load_settings())
    upgrade(ledger, revision)
    Console().print(f"ledger at revision [bold]{current_revision(ledger)}[/]")


@db_group.command("downgrade")
@click.argument("revision")
@click.confirmation_option(prompt="Going back may drop columns with their content. Have you a backup?")
def downgrade_command(revision: str) -> None:
    """Take the ledger back to REVISION."""
    ledger = open_ledger(load_settings())
    downgrade(ledger, revision)
    Console().print(f"ledger at revision [bold]{current_revision(ledger)}[/]")


@db_group.command("status")
def status_command() -> None:
    """Show the revision and what is due, done and given up. Status 1 without a ledger or with migrations missing."""
    settings, console = load_settings(), Console()
    url = make_url(settings.resolved_ledger_url)
    console.print(f"ledger {url.render_as_string(hide_password=True)}", soft_wrap=True)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        console.print("There is none yet: run [bold]chexnode up[/] or [bold]chexnode db upgrade[/].")
        raise click.exceptions.Exit(1)
    ledger = Ledger(settings.resolved_ledger_url)
    current, head = current_revision(ledger), head_revision()
    console.print(f"revision [bold]{current}[/], this software wants [bold]{head}[/]")
    if current != head:
        console.print("Run [bold]chexnode db upgrade[/].")
        raise click.exceptions.Exit(1)
    with ledger.read() as session:
        console.print(status_table(session))
        problems = list(recent_problems(session))
    if problems:
        table = Table("object", "what happened", "reason", title="latest that were not analysed or delivered")
        for problem in problems:
            table.add_row(problem.uid, problem.what, escape(problem.reason))
        console.print(table)


@db_group.command("retry")
def retry_command() -> None:
    """Take up again what was given up: analyses, results, pictures, deliveries and training, after it was mended."""
    ledger = open_ledger(load_settings())
    for table in (*WORK_TABLES, TrainingRun):
        rows = ledger.write(lambda session, table=table: make_due_again(session, table))  # type: ignore[misc]
        Console().print(f"{table.__tablename__}: {rows} due again")


@db_group.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup_command(file: Path) -> None:
    """Save the ledger to FILE, as it is at one moment, while everything goes on.

    The objects are files of their own and never change: copy HOME/objects after the ledger, and a restored ledger finds
    all of its objects there.
    """
    ledger = open_ledger(load_settings())
    back_up(ledger, file)
    Console().print(f"ledger saved to {file} ({file.stat().st_size / 1e6:.1f} MB). It holds patients' data.")


@db_group.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Also where the ledger holds studies; they are removed from it.")
def restore_command(file: Path, replace: bool) -> None:
    """Bring the ledger back from FILE, then record what the object store holds and FILE does not know.

    Every part of the node has to be stopped. Images that came after FILE was written are analysed again.
    """
    settings, console = load_settings(), Console(soft_wrap=True)
    ledger = open_ledger(settings)
    restore(ledger, file, replace=replace)
    store = own_store(settings)
    found = reconcile(ledger, store, ReceptionDesk(ledger, store, settings), open_store(settings))
    console.print(f"ledger restored from {file}, at revision [bold]{current_revision(ledger)}[/]")
    console.print(f"{found.recorded} received files of the object store were not in it and are now")
    if found.missing:
        console.print(f"[red]{len(found.missing)} images are in the ledger and not in the object store:[/] send again")
        for uid in found.missing:
            console.print(f"  {uid}")


@db_group.command("migration", hidden=True)
@click.argument("message")
def migration_command(message: str) -> None:
    """Write the migration from the ledger's present tables to schemas/tables.py (for developers)."""
    ledger = open_ledger(load_settings())
    upgrade(ledger)
    write_migration(ledger, message)
