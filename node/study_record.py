"""Everything that the ledger knows of one study: what was received, set aside, analysed, made and delivered, and when.

Read by the page of a study and by the API.
"""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.image_states import Analysis, ImageState
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
    StoredObject,
    Study,
    WorkState,
)


@dataclass(frozen=True)
class SelectedImage:
    """An image that routing gave to the model."""

    state: ImageState
    #: What the current result says of it; None unless it is analysed as it is now.
    result: ImageResult | None
    picture: Picture | None


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
    selected: list[SelectedImage]
    #: Instances that routing set aside, with their reasons.
    set_aside: list[Instance]
    #: Objects that contradict what was known: kept, not used.
    conflicts: list[Reception]
    objects: list[ObjectState]
    #: Of the current result; None before the first.
    version: int | None
    events: list[Event]

    @property
    def settled(self) -> bool:
        """Whether every delivery came to its end."""
        ended = (WorkState.DONE, WorkState.FAILED)
        return all(each.state in ended for stored in self.objects for each in stored.deliveries)


def read_study(session: Session, study_instance_uid: str) -> StudyRecord:
    """The record of one study. Raises StudyNotFoundError."""
    study = session.scalar(select(Study).where(Study.study_instance_uid == study_instance_uid))
    if study is None:
        raise StudyNotFoundError(f"{study_instance_uid} was never received here.")
    at = session.scalar(select(now())) or 0.0
    (row,) = read_rows(session, [study], at)
    results = session.scalars(select(Result).where(Result.study_id == study.id).order_by(Result.id)).all()
    current = next((each for each in results if each.id == row.result_id), None)
    receptions = session.scalars(
        select(Reception).where(Reception.study_instance_uid == study_instance_uid).order_by(Reception.id)
    ).all()
    digests = {each.instance.pixel_digest for each in row.images}
    inferences = session.scalars(select(Inference).where(Inference.pixel_digest.in_(digests))).all()
    objects = _objects(session, current)
    by_uid = {image.sop_instance_uid: image for image in row.results}
    return StudyRecord(
        row=row,
        selected=[
            SelectedImage(
                each, by_uid.get(each.instance.sop_instance_uid), row.pictures.get(each.instance.sop_instance_uid)
            )
            for each in row.images
            if each.analysis is not Analysis.SET_ASIDE
        ],
        set_aside=[each.instance for each in row.images if each.analysis is Analysis.SET_ASIDE],
        conflicts=[each for each in receptions if each.outcome == Outcome.CONFLICT],
        objects=objects,
        version=current.version if current else None,
        events=_events(study, list(receptions), list(inferences), list(results), objects),
    )


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
