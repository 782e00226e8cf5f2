"""Everything that the ledger knows of one study: what was received, set aside, analysed, made and delivered, and when.

Read by the page of a study and by the API.
"""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.ledger import now
from node.worklist import Row, read_rows
from schemas.errors import StudyNotFoundError
from schemas.result import ImageResult
from schemas.tables import (
    Delivery,
    Inference,
    Instance,
    Outcome,
    Picture,
    ReadState,
    Reception,
    Result,
    Series,
    StoredObject,
    Study,
    WorkState,
)


@dataclass(frozen=True)
class AnalysedImage:
    """An image that routing gave to the model."""

    instance: Instance
    #: What the current result says of it; None before there is one, and when it could not be analysed.
    result: ImageResult | None
    picture: Picture | None
    #: Reason when its analysis was given up.
    failure: str


@dataclass(frozen=True)
class ObjectState:
    """A result object of the current version, and how it gets to its destinations."""

    stored: StoredObject
    deliveries: list[Delivery]


@dataclass(frozen=True)
class Event:
    """A line of the study's timeline."""

    #: Seconds since 1970 UTC.
    at: float
    what: str
    detail: str = ""


@dataclass(frozen=True)
class StudyRecord:
    row: Row
    analysed: list[AnalysedImage]
    #: Instances that routing set aside, with their reasons.
    set_aside: list[Instance]
    #: Objects that contradict what was known: kept, not used.
    conflicts: list[Reception]
    objects: list[ObjectState]
    #: Of the current result; None before the first.
    version: int | None
    events: list[Event]
    #: The study that is to be read next, apart from this one.
    next_uid: str | None

    @property
    def delivered(self) -> bool:
        """Whether everything that there is to deliver is delivered."""
        return all(each.state == WorkState.DONE for stored in self.objects for each in stored.deliveries)


def read_study(session: Session, study_instance_uid: str) -> StudyRecord:
    """The record of one study. Raises StudyNotFoundError."""
    study = session.scalar(select(Study).where(Study.study_instance_uid == study_instance_uid))
    if study is None:
        raise StudyNotFoundError(f"{study_instance_uid} was never received here.")
    at = session.scalar(select(now())) or 0.0
    (row,) = read_rows(session, [study], at)
    instances = session.scalars(select(Instance).join(Series).where(Series.study_id == study.id).order_by(Instance.id))
    by_uid = {each.sop_instance_uid: each for each in instances}
    results = session.scalars(select(Result).where(Result.study_id == study.id).order_by(Result.id)).all()
    current = next((each for each in reversed(results) if each.current), None)
    receptions = session.scalars(
        select(Reception).where(Reception.sop_instance_uid.in_(list(by_uid))).order_by(Reception.id)
    ).all()
    inferences = session.scalars(
        select(Inference).where(Inference.pixel_digest.in_({each.pixel_digest for each in by_uid.values()}))
    ).all()
    objects = _objects(session, current)
    return StudyRecord(
        row=row,
        analysed=_analysed(row, list(by_uid.values()), list(inferences)),
        set_aside=[each for each in by_uid.values() if not each.selected],
        conflicts=[each for each in receptions if each.outcome == Outcome.CONFLICT],
        objects=objects,
        version=current.version if current else None,
        events=_events(study, list(receptions), list(inferences), list(results), objects),
        next_uid=session.scalar(
            select(Study.study_instance_uid)
            .where(Study.due_at.is_not(None), Study.id != study.id)
            .order_by(Study.due_at, Study.id)
            .limit(1)
        ),
    )


def _analysed(row: Row, instances: list[Instance], inferences: list[Inference]) -> list[AnalysedImage]:
    results = {each.sop_instance_uid: each for each in row.document.images} if row.document else {}
    failures = {each.pixel_digest: each.error for each in inferences if each.state == WorkState.FAILED}
    failed = {each.sop_instance_uid: each.reason for each in row.document.failed} if row.document else {}
    return [
        AnalysedImage(
            each,
            results.get(each.sop_instance_uid),
            row.pictures.get(each.sop_instance_uid),
            failed.get(each.sop_instance_uid, failures.get(each.pixel_digest, "")),
        )
        for each in instances
        if each.selected
    ]


def _objects(session: Session, result: Result | None) -> list[ObjectState]:
    if result is None:
        return []
    deliveries = session.scalars(
        select(Delivery).where(Delivery.result_id == result.id).order_by(Delivery.destination)
    ).all()
    return [
        ObjectState(stored, [each for each in deliveries if each.object_id == stored.id])
        for stored in result.objects
        if stored.sha256
    ]


def _events(
    study: Study,
    receptions: list[Reception],
    inferences: list[Inference],
    results: list[Result],
    objects: list[ObjectState],
) -> list[Event]:
    words = {
        Outcome.NEW: "Image received",
        Outcome.PIXELS_CHANGED: "Image received again with other pixels",
        Outcome.HEADER_CHANGED: "Corrected header received",
        Outcome.CONFLICT: "Contradicting object received, not used",
    }
    events = [
        Event(each.received_at, words[Outcome(each.outcome)], f"from {each.calling_ae_title}") for each in receptions
    ]
    for inference in inferences:
        if inference.finished_at and inference.state == WorkState.DONE:
            took = (inference.read_ms or 0) + (inference.forward_ms or 0)
            events.append(Event(inference.finished_at, "Image analysed", f"{took:.0f} ms, {inference.engine_device}"))
        elif inference.finished_at and inference.state == WorkState.FAILED:
            events.append(Event(inference.finished_at, "Analysis given up", inference.error))
    for result in results:
        if result.finished_at and result.state == WorkState.DONE:
            events.append(Event(result.finished_at, f"Result {result.version}", f"urgency {result.urgency}"))
        elif result.finished_at and result.state == WorkState.FAILED:
            events.append(Event(result.finished_at, f"Result {result.version} given up", result.error))
    for stored in objects:
        events += [
            Event(each.finished_at, f"{stored.stored.kind.replace('_', ' ').capitalize()} delivered", each.destination)
            for each in stored.deliveries
            if each.finished_at and each.state == WorkState.DONE
        ]
    if study.opened_at:
        events.append(Event(study.opened_at, "Opened", _by(study.opened_by)))
    if study.read_at and study.read_state == ReadState.READ:
        events.append(Event(study.read_at, "Marked as read", _by(study.read_by)))
    return sorted(events, key=lambda event: event.at)


def _by(name: str) -> str:
    return f"by {name}" if name else "on this host"
