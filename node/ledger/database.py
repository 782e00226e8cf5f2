"""Migrations of the ledger by Alembic. Called by every process of the node at its start, and by `chexnode db`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

import schemas.migrations
from node.ledger.ledger import Ledger, open_ledger
from schemas.errors import LedgerError
from schemas.settings import Settings

log = structlog.get_logger()

_WAIT_SECONDS = 1.0
#: Any number, the same in every process: PostgreSQL advisory lock under which one process migrates.
_ADVISORY_LOCK = 0x43585244


def ready_ledger(settings: Settings) -> Ledger:
    """The ledger of these settings, migrated: what every process of the node begins with.

    Waits for a database that does not answer yet: when a host starts, everything on it starts at once.
    """
    ledger = open_ledger(settings)
    while True:
        try:
            upgrade(ledger)
        except OperationalError as error:
            log.warning("ledger does not answer, trying again", error=error)
            time.sleep(_WAIT_SECONDS)
        else:
            return ledger


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


def write_migration(ledger: Ledger, message: str) -> None:
    """Write the migration from the ledger's present tables to those of schemas/tables.py (for developers)."""
    _run(ledger, lambda config: command.revision(config, message=message, autogenerate=True))


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
