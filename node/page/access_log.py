"""The access log: who logged in, saw or marked what, and who was refused; GET /access shows it to administrators.

Kept in the ledger, where no text log's rotation takes it away (OWASP ASVS 5.0, 16.2 and 16.3). Rows are never changed.
"""

import threading
import time
import unicodedata
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from node.ledger.ledger import now
from node.page.context import Page, page_of
from node.page.rendering import render
from node.page.visitor import Admin, Visitor
from schemas.account_tables import AccessEntry

router = APIRouter()

_PAGE_ROWS = 100
#: What an account or a study can be called, with blanks around from copying; control characters (PostgreSQL knows no
#: NUL in a text) are answered 422 before a database sees them.
_NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]*$"
_UID_OR_NONE = r"^ *[0-9.]* *$"
_NAME_LENGTH = 64
_DETAIL_LENGTH = 500


def record(
    where: Session | Page, visitor: Visitor, action: str, study_instance_uid: str = "", detail: str = ""
) -> None:
    """Write down what a visitor did: in the transaction of `where`, or in one of its own when it is a page.

    `action` is one of those that schemas/tables.py names at AccessEntry.
    """
    entry(where, visitor.name, visitor.address, action, study_instance_uid, detail)


def entry(
    where: Session | Page, name: str, address: str, action: str, study_instance_uid: str = "", detail: str = ""
) -> None:
    """The same for somebody who is no visitor: a name that was tried, an address that was refused."""
    values: dict[str, Any] = {
        "at": now(),
        "account": loggable(name, _NAME_LENGTH),
        "address": address,
        "action": action,
        "study_instance_uid": loggable(study_instance_uid, 64),
        "detail": loggable(detail, _DETAIL_LENGTH),
    }
    if isinstance(where, Session):
        where.add(AccessEntry(**values))
    else:
        where.ledger.write(lambda session: session.add(AccessEntry(**values)))


def loggable(text: str, length: int = _NAME_LENGTH) -> str:
    """What somebody typed, cut, and without what could forge another line or turn the writing round (CWE-117)."""
    return "".join(char for char in text if not unicodedata.category(char).startswith("C"))[:length]


class RefusalLog:
    """Rows of refused requests: one per address, account and minute, and not more than so many in all.

    A flood of requests would fill the disk otherwise.
    """

    def __init__(self, seconds: float = 60.0, addresses: int = 60) -> None:
        self._seconds = seconds
        self._addresses = addresses
        self._noted: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, page: Page, origin: str, address: str, name: str, detail: str) -> None:
        """Write down that a request was refused. `origin` is what is counted: the address or its network."""
        if self._is_due(f"{origin} {name}"):
            entry(page, name, address, "refused", detail=detail)

    def _is_due(self, origin: str) -> bool:
        moment = time.monotonic()
        with self._lock:
            self._noted = {each: at for each, at in self._noted.items() if moment - at < self._seconds}
            if origin in self._noted or len(self._noted) >= self._addresses:
                return False
            self._noted[origin] = moment
            return True


@router.get("/access", include_in_schema=False)
def access_page(
    request: Request,
    visitor: Admin,
    account: Annotated[str, Query(max_length=64, pattern=_NO_CONTROL)] = "",
    study: Annotated[str, Query(max_length=64, pattern=_UID_OR_NONE)] = "",
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    """The newest entries, of an account or a study where one is named; `before` is the row that paging goes on from."""
    account, study = account.strip(), study.strip()
    entries = select(AccessEntry).where(*_conditions(account, study, before)).order_by(AccessEntry.id.desc())
    with page_of(request).ledger.read() as session:
        rows = list(session.scalars(entries.limit(_PAGE_ROWS + 1)))
    older = rows[_PAGE_ROWS - 1].id if len(rows) > _PAGE_ROWS else None
    rows = rows[:_PAGE_ROWS]
    return render(request, "access.html", rows=rows, account=account, study=study, before=before, older=older)


def _conditions(account: str, study: str, before: int | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if account:
        conditions.append(AccessEntry.account == account)
    if study:
        conditions.append(AccessEntry.study_instance_uid == study)
    if before is not None:
        conditions.append(AccessEntry.id < before)
    return conditions
