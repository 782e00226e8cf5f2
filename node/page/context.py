"""What every route of the page works with."""

from dataclasses import dataclass
from typing import cast

from starlette.requests import HTTPConnection

from node.ledger import Ledger
from node.object_store import FolderObjectStore
from schemas.settings import Settings


@dataclass(frozen=True)
class Page:
    settings: Settings
    ledger: Ledger
    store: FolderObjectStore


def page_of(connection: HTTPConnection) -> Page:
    """The page that serves this request."""
    return cast(Page, connection.app.state.page)
