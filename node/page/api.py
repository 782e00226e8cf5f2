"""The API of the page: the worklist and the studies as JSON, and marking, for a RIS or a script.

Logs in as a browser does, or with HTTP Basic and an account. Its description is at /api/openapi.json.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from node.page.access_log import record
from node.page.context import UID, Page, Uid, page_of
from node.page.visitor import Reader
from node.page.words import doubts
from node.page.worklist import mark_studies, selection
from node.results.study_record import read_study
from node.worklist import Row, Selection, place_in_words, read_worklist
from schemas.result import StudyResult, Urgency
from schemas.tables import Commitment, DeliveryState, ReadState

routes = APIRouter(prefix="/api")


class WorklistStudy(BaseModel):
    """A study of the worklist. Times are seconds since 1970-01-01 UTC."""

    study_instance_uid: str
    patient_id: str
    patient_name: str
    accession_number: str
    study_description: str
    #: YYYYMMDDHHMMSS, the department's local time.
    study_date_time: str
    urgency: Urgency
    malpositioned_tube: bool | None
    state: ReadState
    waiting_since: float | None
    due_at: float | None
    #: Why it stands where it stands.
    place: str
    #: The current result of each bundle that has one, by name of the bundle.
    results: list[StudyResult]
    #: Bundles whose current result this version of CheXNode cannot read.
    unreadable: list[str]
    #: Key of these results, "0" without one: to be given back with a mark.
    result_seen: str
    #: What must not be taken for normal: images that were not analysed, findings that were not assessed.
    doubts: list[str]
    #: Why there is no result and none is to come.
    not_analysed: str


class WorklistAnswer(BaseModel):
    studies: list[WorklistStudy]
    #: Whether another page follows.
    more: bool
    open: int
    flagged: int
    overdue: int


class DeliveryAnswer(BaseModel):
    #: Name of the bundle whose result it belongs to.
    bundle: str
    sop_instance_uid: str
    kind: str
    destination: str
    state: DeliveryState
    error: str
    commitment: Commitment


class StudyAnswer(WorklistStudy):
    deliveries: list[DeliveryAnswer]
    #: SOP Instance UID -> why routing set it aside.
    set_aside: dict[str, str]


class NewState(BaseModel):
    state: ReadState
    #: `result_seen` of the answer that the reader saw: a study with other results, of any bundle, is then not marked as
    #: read (409).
    result_seen: Annotated[str, Field(max_length=200)] | None = None


class NewStates(BaseModel):
    state: ReadState
    study_instance_uids: Annotated[list[Annotated[str, Field(pattern=UID)]], Field(min_length=1, max_length=1000)]


@routes.get("/worklist")
def worklist(request: Request, visitor: Reader, selected: Annotated[Selection, Depends(selection)]) -> WorklistAnswer:
    """Studies in the order in which they are to be read."""
    page = page_of(request)
    with page.ledger.read() as session:
        found = read_worklist(session, selected)
    record(page, visitor, "worklist", detail="api")
    return WorklistAnswer(
        studies=[WorklistStudy(**_study(page, row)) for row in found.rows],
        more=found.more,
        open=found.counts.open,
        flagged=found.counts.flagged,
        overdue=found.counts.overdue,
    )


@routes.get("/studies/{study_instance_uid}")
def study(request: Request, visitor: Reader, study_instance_uid: Uid) -> StudyAnswer:
    """One study with its current results. 404 when it was never received."""
    page = page_of(request)
    with page.ledger.read() as session:
        found = read_study(session, study_instance_uid)
    record(page, visitor, "study", study_instance_uid, "api")
    return StudyAnswer(
        **_study(page, found.row),
        deliveries=[
            DeliveryAnswer(
                bundle=each.bundle_name,
                sop_instance_uid=each.stored.sop_instance_uid,
                kind=each.stored.kind,
                destination=delivery.destination,
                state=DeliveryState(delivery.state),
                error=delivery.error,
                commitment=Commitment(delivery.commitment),
            )
            for each in found.objects
            for delivery in each.deliveries
        ],
        set_aside={each.sop_instance_uid: each.route_explanation for each in found.set_aside},
    )


@routes.put("/studies/{study_instance_uid}/state", status_code=204)
def mark_study(request: Request, visitor: Reader, study_instance_uid: Uid, new: NewState) -> None:
    """Mark one study as new, opened or read. 404 when it is not on the worklist, 409 when a newer result came."""
    mark_studies(page_of(request), visitor, [study_instance_uid], new.state, new.result_seen)


@routes.post("/worklist/state", status_code=204)
def mark_many(request: Request, visitor: Reader, new: NewStates) -> None:
    """Mark several studies at once: all of them or, when one is not on the worklist, none (404)."""
    mark_studies(page_of(request), visitor, new.study_instance_uids, new.state)


def _study(page: Page, row: Row) -> dict[str, Any]:
    study = row.study
    return {
        "study_instance_uid": study.study_instance_uid,
        "patient_id": study.patient_id,
        "patient_name": study.patient_name,
        "accession_number": study.accession_number,
        "study_description": study.study_description,
        "study_date_time": study.study_date_time,
        "urgency": row.urgency,
        "malpositioned_tube": study.malpositioned_tube,
        "state": ReadState(study.read_state),
        "waiting_since": study.waiting_since,
        "due_at": study.due_at,
        "place": place_in_words(row, page.settings.triage.allowed_minutes),
        "results": [each.document for each in row.bundles],
        "unreadable": [each.bundle_name for each in row.unreadable],
        "result_seen": row.seen,
        "doubts": doubts(row),
        "not_analysed": row.not_analysed,
    }
