"""The ledger: one database session at a time, each state change one transaction, on SQLite or PostgreSQL.

Used by everything that keeps state. Tables: schemas/tables.py; claiming of work: node/ledger/leases.py.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Double, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import FunctionElement

from node.monitoring.metrics import LEDGER_SECONDS
from schemas.settings import Settings

T = TypeVar("T")

#: Primary result codes (sqlite.org/rescode.html) that are the surroundings' and not the statement's.
_SQLITE_AWAY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}

#: How long a SQLite writer waits for another one, seconds.
_BUSY_SECONDS = 30
_TRIES = 5


class now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """The database's clock, seconds since 1970-01-01 UTC (double)."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _sqlite_now(element: now, compiler: Any, **kw: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42; Debian 12 has 3.40.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _postgresql_now(element: now, compiler: Any, **kw: Any) -> str:
    # Not now(): that is the start of the transaction. As a subquery it is asked once per statement; as it stands it
    # would be asked for every row, and no index could be used for what is compared with it.
    return "(SELECT extract(epoch from clock_timestamp())::double precision)"


class Ledger:
    """Connection to the ledger.

    Parameters
    ----------
    url
        SQLAlchemy URL, sqlite:/// or postgresql+psycopg2://.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # Parameters of a failed statement are patients' data, and errors are logged.
        self.engine = _sqlite_engine(url) if make_url(url).get_backend_name() == "sqlite" else _postgresql_engine(url)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session whose changes, if any, are thrown away; never waits for a writer."""
        with Session(self.engine, expire_on_commit=False) as session:
            session.connection(execution_options={"chexnode_read": True})
            yield session

    def write(self, change: Callable[[Session], T]) -> T:
        """Run `change` in one transaction and commit it durably; when two writers collide, the later one runs again.

        `change` must have no effect besides the session. Raises what it raises, or the database's error.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                with (
                    LEDGER_SECONDS.time(),
                    Session(self.engine, expire_on_commit=False) as session,
                    session.begin(),
                ):
                    return change(session)
            except (IntegrityError, OperationalError) as error:
                # Two receivers inserted the same study, or PostgreSQL found a deadlock: the second look succeeds.
                if attempt == _TRIES or _is_disconnect(error):
                    raise
                time.sleep(0.01 * attempt)
        raise AssertionError("unreachable")

    def close(self) -> None:
        self.engine.dispose()


def open_ledger(settings: Settings) -> Ledger:
    """The ledger of these settings, with its home folder made."""
    settings.home.mkdir(parents=True, exist_ok=True)
    return Ledger(settings.resolved_ledger_url)


def is_away(error: SQLAlchemyError) -> bool:
    """Whether the database is down, full, locked or read-only: the same statement may succeed later.

    SQLite calls a wrong statement an operational error too; its own code tells them apart.
    """
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE_AWAY
    return isinstance(error, OperationalError | InternalError) or error.connection_invalidated


def _is_disconnect(error: DBAPIError) -> bool:
    return error.connection_invalidated


def _postgresql_engine(url: str) -> Engine:
    engine = create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=_network_limits(url))

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # Every query here takes milliseconds: starting workers or compiling for one takes longer than it does.
        with connection.cursor() as cursor:
            cursor.execute("SET max_parallel_workers_per_gather = 0; SET jit = off")
        connection.commit()

    return engine


def _network_limits(url: str) -> dict[str, Any]:
    """libpq's time limits, where the URL says none: a host that has gone would be waited for a quarter of an hour."""
    limits = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    return {key: value for key, value in limits.items() if key not in make_url(url).query}


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk before it returns; NORMAL could lose the last commits at a power cut.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writer half-way fails at once when another one wrote in between.
        read = connection.get_execution_options().get("chexnode_read", False)
        connection.exec_driver_sql("BEGIN" if read else "BEGIN IMMEDIATE")

    return engine
