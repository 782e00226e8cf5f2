"""What is in quarantine, for operators: each thing with its reason, and a button that takes it up again."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from node.intake.quarantine import retry
from node.intake.quarantine_entries import EntryName, find_entry, quarantine_count, quarantine_entries
from node.page.access_log import record
from node.page.context import page_of
from node.page.rendering import render
from node.page.visitor import Operator

routes = APIRouter()

#: Of each kind: more are for `chexnode quarantine list`.
_LIMIT = 50


@routes.get("/quarantine", include_in_schema=False)
def quarantine(request: Request, visitor: Operator) -> Response:
    """The latest of each kind."""
    with page_of(request).ledger.read() as session:
        entries, count = quarantine_entries(session, limit=_LIMIT), quarantine_count(session)
    return render(request, "quarantine.html", entries=entries, count=count)


@routes.post("/quarantine/retry", include_in_schema=False)
def take_up(request: Request, visitor: Operator, name: Annotated[str, Form(max_length=32)]) -> Response:
    """Take one thing up again. 409 with the reason when it stays."""
    page, entry_name = page_of(request), EntryName.parse(name)
    with page.ledger.read() as session:
        entry = find_entry(session, entry_name)
    retry(page.ledger, page.store, page.settings, entry_name)
    record(page, visitor, "quarantine", entry.study_instance_uid, f"taken up again: {entry_name}")
    return RedirectResponse("/quarantine", HTTPStatus.SEE_OTHER)
