"""The worklist page: `GET /` whole, or the list alone when htmx asks; marking by click; the stream of changes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from node.page.access_log import record
from node.page.context import Page, Uid, page_of
from node.page.rendering import render
from node.page.viewer import study_link
from node.page.visitor import Reader, Visitor
from node.reading import mark, next_to_read
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
    if "HX-Request" not in request.headers:
        # What is searched for while one types is within the list that was opened, and may be a patient's name.
        record(page, visitor, "worklist")
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
    seen: Annotated[str | None, Form(max_length=200)] = None,
    then: Annotated[str, Form()] = "",
) -> Response:
    """Mark one study of which the results `seen` were seen; `then` is "next" to go on to the one that is due next."""
    page = page_of(request)
    mark_studies(page, visitor, [study_instance_uid], state, seen)
    if "HX-Request" in request.headers:
        return Response(status_code=204, headers={"HX-Trigger": "changed"})
    if state is ReadState.NEW:
        # Not back to the study, which would be opened again by that.
        return RedirectResponse("/", 303)
    return RedirectResponse("/next" if then == "next" else f"/studies/{study_instance_uid}", 303)


@routes.get("/next")
def next_study(request: Request, visitor: Reader) -> Response:
    """Go to the study that is to be read next; to the list when there is none."""
    with page_of(request).ledger.read() as session:
        uid = next_to_read(session, visitor.name)
    return RedirectResponse(f"/studies/{uid}" if uid else "/", 303)


def mark_studies(
    page: Page, visitor: Visitor, study_instance_uids: list[str], state: ReadState, seen: str | None = None
) -> None:
    """Mark the studies and log who did, in one transaction.

    Raises StudyNotFoundError or StudyChangedError; then none is marked.
    """
    waits = page.settings.triage.allowed_minutes

    def change(session: Session) -> None:
        for uid in mark(session, study_instance_uids, state, visitor.name, waits, seen):
            record(session, visitor, "state", uid, state.value + (f", results {seen} seen" if seen else ""))

    page.ledger.write(change)
