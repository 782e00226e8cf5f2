"""Saving the ledger to one file while everything goes on, and bringing it back (`chexnode db backup|restore`).

SQLite: its online backup, a SQLite file. PostgreSQL: pg_dump's custom format, one consistent snapshot.
"""

import os
import secrets
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from psycopg2.extensions import make_dsn
from sqlalchemy import make_url, select

from node.ledger.database import downgrade, upgrade
from node.ledger.ledger import Ledger
from node.monitoring.presence import present_processes
from node.storage.durable import sync_folder
from schemas.errors import LedgerBackupError
from schemas.tables import Reception

_SQLITE_MAGIC = b"SQLite format 3\0"
_POSTGRESQL_MAGIC = b"PGDMP"
#: Alembic's own table outlives a downgrade.
_CLEAN = ("--clean", "--if-exists", "--single-transaction")


def back_up(ledger: Ledger, target: Path) -> None:
    """Save the ledger to `target`, readable by its owner alone. Whole and durable when this returns, or not there.

    Raises LedgerBackupError, also when `target` exists.
    """
    if target.exists():
        raise LedgerBackupError(f"{target} exists: give a new name, so that no backup is lost.")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}.draft")
    try:
        draft.touch(mode=0o600)
        if _is_sqlite(ledger):
            with _raw(ledger) as source, closing(sqlite3.connect(draft)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        else:
            _run_tool(ledger, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={draft}")
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        draft.rename(target)
        sync_folder(target.resolve().parent)
    except (OSError, sqlite3.Error) as error:
        raise LedgerBackupError(f"{target}: {error}.") from error
    finally:
        draft.unlink(missing_ok=True)


def restore(ledger: Ledger, source: Path, *, replace: bool) -> None:
    """Bring the ledger back as it was saved, then migrate it. Raises LedgerBackupError and changes nothing.

    Refused while a part of the node runs, and unless told to replace where the ledger holds receptions. When PostgreSQL
    fails half-way the ledger is empty, the error says so, and the same command may be run again.
    """
    _check_kind(ledger, source)
    upgrade(ledger)
    with ledger.read() as session:
        running = [f"{each.role} on {each.host}" for each in present_processes(session)]
        empty = session.scalar(select(Reception.id).limit(1)) is None
    if running:
        raise LedgerBackupError(f"Stop every part of the node first; {', '.join(running)} runs (or ran seconds ago).")
    if not empty and not replace:
        raise LedgerBackupError("The ledger holds studies. Save it with chexnode db backup, then restore --replace.")
    if _is_sqlite(ledger):
        _restore_sqlite(ledger, source)
    else:
        _run_tool(ledger, "pg_restore", "--list", str(source), connect=False)
        downgrade(ledger, "base")
        _run_tool(ledger, "pg_restore", "--no-owner", "--no-privileges", *_CLEAN, str(source))
    ledger.engine.dispose()
    upgrade(ledger)


def _restore_sqlite(ledger: Ledger, source: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as saved:
            found = saved.execute("PRAGMA integrity_check").fetchone()[0]
            if found != "ok":
                raise LedgerBackupError(f"{source} is damaged ({found}): take another backup.")
            with _raw(ledger) as target:
                saved.backup(target)
    except sqlite3.Error as error:
        raise LedgerBackupError(f"{source}: {error}.") from error


def _check_kind(ledger: Ledger, source: Path) -> None:
    with source.open("rb") as stream:
        begin = stream.read(len(_SQLITE_MAGIC))
    wanted = _SQLITE_MAGIC if _is_sqlite(ledger) else _POSTGRESQL_MAGIC
    if not begin.startswith(wanted):
        kind = make_url(ledger.url).get_backend_name()
        raise LedgerBackupError(f"{source} is no backup of a {kind} ledger, and ledger_url names one.")


def _is_sqlite(ledger: Ledger) -> bool:
    return make_url(ledger.url).get_backend_name() == "sqlite"


@contextmanager
def _raw(ledger: Ledger) -> Iterator[sqlite3.Connection]:
    """The driver's own connection, outside of any transaction."""
    with ledger.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        yield raw


def _run_tool(ledger: Ledger, tool: str, *arguments: str, connect: bool = True) -> None:
    """Run one of PostgreSQL's own programs on the ledger's database; the password goes by the environment."""
    path = shutil.which(tool)
    if path is None:
        raise LedgerBackupError(f"{tool} is not installed here: apt install postgresql-client, as new as the server.")
    url = make_url(ledger.url)
    dsn = make_dsn(host=url.host, port=url.port, user=url.username, dbname=url.database, **url.query)
    environment = {**os.environ, **({"PGPASSWORD": url.password} if url.password else {})}
    database = [f"--dbname={dsn}"] if connect else []
    run = subprocess.run([path, *database, *arguments], capture_output=True, text=True, env=environment, check=False)
    if run.returncode:
        raise LedgerBackupError(f"{tool}: {run.stderr.strip()[-1000:]}")
