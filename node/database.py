"""Migrations of the ledger by Alembic, and `chexnode db`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Connection, make_url, text

import schemas.migrations
from node.leases import WORK_TABLES, make_due_again
from node.ledger import Ledger, open_ledger
from node.ledger_report import recent_problems, status_table
from schemas.errors import LedgerError
from schemas.settings import load_settings
from schemas.tables import TrainingRun

#: Any number, the same in every process: PostgreSQL advisory lock under which one process migrates.
_ADVISORY_LOCK = 0x43585244


def upgrade(ledger: Ledger, revision: str = "head") -> None:
    """Bring the ledger to `revision`. Safe when several processes start at once and when run again."""
    _run(ledger, lambda config: command.upgrade(config, revision))


def downgrade(ledger: Ledger, revision: str) -> None:
    """Take the ledger back to `revision` ("base" removes every table)."""
    _run(ledger, lambda config: command.downgrade(config, revision))


def current_revision(ledger: Ledger) -> str | None:
    """The ledger's revision; None for an empty database."""
    with ledger.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head_revision() -> str | None:
    """The revision that this software works with."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(schemas.migrations.__file__).parent))
    return config


def _run(ledger: Ledger, action: Callable[[Config], object]) -> None:
    config = _config()
    with ledger.engine.connect() as connection, _references_unchecked(connection), connection.begin():
        _lock(connection)
        config.attributes["connection"] = connection
        action(config)
        _check_references(connection)


@contextmanager
def _references_unchecked(connection: Connection) -> Iterator[None]:
    """SQLite alters a table by making it anew, during which references to it hang.

    The procedure of sqlite.org/lang_altertable.html, section 7; the pragma does nothing within a transaction.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    raw = connection.connection.cursor()
    raw.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        raw.execute("PRAGMA foreign_keys = ON")
        raw.close()


def _check_references(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise LedgerError(f"{len(broken)} rows would refer to rows that are not there; nothing was changed.")


def _lock(connection: Connection) -> None:
    # SQLite needs none: the transaction began with BEGIN IMMEDIATE.
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


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


@db_group.command("migration", hidden=True)
@click.argument("message")
def migration_command(message: str) -> None:
    """Write the migration from the ledger's present tables to schemas/tables.py (for developers)."""
    ledger = open_ledger(load_settings())
    upgrade(ledger)
    _run(ledger, lambda config: command.revision(config, message=message, autogenerate=True))
