"""The worklist page: `GET /` whole, or the list alone when htmx asks; marking by click; the stream of changes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from node.page.access_log import record
from node.page.context import Page, Uid, page_of
from node.page.rendering import render
from node.page.security import BACKGROUND_HEADER
from node.page.viewer import study_link
from node.page.visitor import Reader
from node.reading import mark
from node.worklist import Selection, Show, place_in_words, read_worklist
from schemas.result import Urgency
from schemas.tables import ReadState

routes = APIRouter()


def selection(
    show: Show = Show.OPEN,
    flagged: bool = False,
    urgency: Urgency | str = "",
    q: Annotated[str, Query(max_length=200)] = "",
    page: Annotated[int, Query(ge=0, le=10_000)] = 0,
) -> Selection:
    """The selection that a query string asks for; a form sends "" for any urgency."""
    return Selection(show, flagged, urgency if isinstance(urgency, Urgency) else None, q, page)


@routes.get("/")
def worklist(request: Request, visitor: Reader, selected: Annotated[Selection, Depends(selection)]) -> Response:
    page = page_of(request)
    with page.ledger.read() as session:
        found = read_worklist(session, selected)
    if BACKGROUND_HEADER not in request.headers:
        record(page, visitor, "worklist", detail=_words(selected))
    return render(
        request,
        "worklist_rows.html" if "HX-Request" in request.headers else "worklist.html",
        selected=selected,
        worklist=found,
        place=lambda row: place_in_words(row, page.settings.triage.allowed_minutes),
        link=lambda row: study_link(page, row.study.study_instance_uid, row.study.patient_id),
    )


@routes.post("/studies/{study_instance_uid}/state")
def mark_study(
    request: Request,
    visitor: Reader,
    study_instance_uid: Uid,
    state: Annotated[ReadState, Form()],
    then: Annotated[str, Form()] = "",
) -> Response:
    """Mark one study; `then` is "next" to go on to the one that is due next."""
    page = page_of(request)
    mark_studies(page, visitor, [study_instance_uid], state)
    if "HX-Request" in request.headers:
        return Response(status_code=204, headers={"HX-Trigger": "changed"})
    return RedirectResponse("/next" if then == "next" else f"/studies/{study_instance_uid}", 303)


@routes.get("/next")
def next_study(request: Request, visitor: Reader) -> Response:
    """Go to the study that is to be read next; to the list when there is none."""
    with page_of(request).ledger.read() as session:
        rows = read_worklist(session, Selection()).rows
    return RedirectResponse(f"/studies/{rows[0].study.study_instance_uid}" if rows else "/", 303)


def mark_studies(page: Page, visitor: Reader, study_instance_uids: list[str], state: ReadState) -> None:
    """Mark the studies and log who did. Raises StudyNotFoundError; then none is marked."""
    waits = page.settings.triage.allowed_minutes
    page.ledger.write(lambda session: mark(session, study_instance_uids, state, visitor.name, waits))
    for uid in study_instance_uids:
        record(page, visitor, "state", uid, state)


def _words(selected: Selection) -> str:
    """What was looked for, for the access log."""
    parts = [selected.show.value, "flagged" if selected.flagged else "", selected.urgency or "", selected.search]
    return " ".join(part for part in parts if part)
