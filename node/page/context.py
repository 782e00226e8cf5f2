"""What every route of the page works with."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Path
from starlette.requests import HTTPConnection

from node.ledger.ledger import Ledger
from node.storage.object_store import ObjectStore
from schemas.settings import Settings

#: A UID in an address (PS3.5 section 9.1); anything else is answered 422 before a database sees it.
UID = r"^[0-9.]{1,64}$"
Uid = Annotated[str, Path(pattern=UID)]


@dataclass(frozen=True)
class Page:
    settings: Settings
    ledger: Ledger
    store: ObjectStore


def page_of(connection: HTTPConnection) -> Page:
    """The page that serves this request."""
    return cast(Page, connection.app.state.page)
