"""The ledger as the doctor reaches for it: within a time limit, and without making one where there is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, make_url, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from node.ledger.ledger import Ledger
from schemas.errors import ChexnodeError
from schemas.settings import Settings

#: For the connection, and for any statement, seconds.
_CONNECT_SECONDS = 3
_STATEMENT_SECONDS = 10


class LedgerUnavailableError(ChexnodeError):
    """The ledger does not answer."""

    def __init__(self, found: str, to_do: str, said: str = "") -> None:
        super().__init__(said)
        self.found = found
        self.to_do = to_do
        #: The database's own words.
        self.said = said


@contextmanager
def reach_ledger(settings: Settings) -> Iterator[Ledger]:
    """The ledger of these settings, which has answered. Raises LedgerUnavailableError."""
    url = make_url(settings.resolved_ledger_url)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite":
        if not Path(url.database or "").exists():
            raise LedgerUnavailableError(
                f"there is none yet at {url.database}", "Run chexnode up, or chexnode db upgrade."
            )
        to_do = "Check the folder and its owner; a damaged file has to come from a backup."
    else:
        url = _limited(url)
        to_do = "Check that the database server runs, and host, user, password and database of ledger_url."
    try:
        ledger = Ledger(url.render_as_string(hide_password=False))
    except (SQLAlchemyError, ImportError) as error:
        to_do = "ledger_url is to begin with postgresql+psycopg2:// or sqlite:///."
        raise LedgerUnavailableError(f"{shown} names no database that CheXNode can use", to_do, str(error)) from error
    try:
        try:
            with ledger.read() as session:
                session.scalar(select(1))
        except DBAPIError as error:
            raise LedgerUnavailableError(f"{shown} does not answer", to_do, str(error.orig)) from error
        yield ledger
    finally:
        ledger.close()


def _limited(url: URL) -> URL:
    """The PostgreSQL URL with time limits of libpq and the server, where it has none of its own."""
    limits = {"connect_timeout": str(_CONNECT_SECONDS), "options": f"-c statement_timeout={_STATEMENT_SECONDS}s"}
    return url.update_query_dict({name: value for name, value in limits.items() if name not in url.query})
