"""Everything that the ledger knows of one study: what was received, set aside, analysed, made and delivered, and when.

Read by the page of a study and by the API.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from node.ledger.ledger import now
from node.results.bundle_results import BundleResult
from node.results.image_states import Analysis, ImageState
from node.worklist import Row, read_rows
from schemas.change_tables import Rejection, Withdrawal
from schemas.codes import RejectionReason
from schemas.errors import StudyNotFoundError
from schemas.result import ImageResult
from schemas.tables import (
    Bundle,
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
class Reading:
    """What one bundle says of an image as it is now, and its pictures."""

    bundle: BundleResult
    result: ImageResult
    picture: Picture | None


@dataclass(frozen=True)
class SelectedImage:
    """An image that routing gave to at least one bundle."""

    state: ImageState
    #: Of the bundles that have analysed it as it is now, by name.
    readings: list[Reading]


@dataclass(frozen=True)
class ObjectState:
    """A result object of a current version, and how it gets to its destinations."""

    bundle_name: str
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
    #: Objects in quarantine: they contradict what is known.
    conflicts: list[Reception]
    objects: list[ObjectState]
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
    receptions = session.scalars(
        select(Reception).where(Reception.study_instance_uid == study_instance_uid).order_by(Reception.id)
    ).all()
    digests = {each.instance.pixel_digest for each in row.images}
    inferences = session.scalars(select(Inference).where(Inference.pixel_digest.in_(digests))).all()
    names = _bundle_names(session, results, inferences)
    # Also of what cannot be read here: it was delivered all the same.
    current = sorted([*(each.result for each in row.bundles), *row.unreadable], key=lambda each: each.bundle_name)
    objects = [each for result in current for each in _objects(session, result)]
    return StudyRecord(
        row=row,
        selected=[
            SelectedImage(each, _readings(row, each.instance.sop_instance_uid))
            for each in row.images
            if each.analysis is not Analysis.SET_ASIDE
        ],
        set_aside=[each.instance for each in row.images if each.analysis is Analysis.SET_ASIDE],
        conflicts=[each for each in receptions if each.outcome == Outcome.QUARANTINED],
        objects=objects,
        events=sorted(
            [*_events(study, receptions, inferences, results, objects, names), *_withdrawn(session, study, results)],
            key=lambda event: event.at,
        ),
    )


def _readings(row: Row, sop_instance_uid: str) -> list[Reading]:
    return [
        Reading(bundle, image, bundle.pictures.get(sop_instance_uid))
        for bundle in row.bundles
        for image in bundle.images
        if image.sop_instance_uid == sop_instance_uid
    ]


def _bundle_names(session: Session, results: Sequence[Result], inferences: Sequence[Inference]) -> dict[str, str]:
    """Bundle digest -> name of the bundle, where it is known."""
    digests = {each.bundle_digest for each in inferences}
    registered = session.execute(select(Bundle.digest, Bundle.name).where(Bundle.digest.in_(digests)))
    names = {result.bundle_digest: result.bundle_name for result in results}
    return names | {digest: name for digest, name in registered}  # noqa: C416 - rows are no pairs to the type checker


def _objects(session: Session, result: Result) -> list[ObjectState]:
    deliveries = session.scalars(
        select(Delivery).where(Delivery.result_id == result.id).order_by(Delivery.destination)
    ).all()
    return [
        ObjectState(result.bundle_name, stored, [each for each in deliveries if each.object_id == stored.id])
        for stored in result.objects
        if stored.sha256
    ]


def _events(
    study: Study,
    receptions: Sequence[Reception],
    inferences: Sequence[Inference],
    results: Sequence[Result],
    objects: Sequence[ObjectState],
    names: dict[str, str],
) -> list[Event]:
    words = {
        Outcome.NEW: "Image received",
        Outcome.PIXELS_CHANGED: "Image received again with other pixels",
        Outcome.HEADER_CHANGED: "Corrected header received",
        Outcome.RESTORED: "Image received again, taken in again",
        Outcome.QUARANTINED: "Contradicting object received, in quarantine",
    }
    events = [
        Event(each.received_at, words[Outcome(each.outcome)], f"from {each.calling_ae_title}") for each in receptions
    ]
    for inference in inferences:
        by = [names[inference.bundle_digest]] if inference.bundle_digest in names else []
        if inference.finished_at and inference.state == WorkState.DONE:
            took = (inference.read_ms or 0) + (inference.forward_ms or 0)
            detail = ", ".join([*by, f"{took:.0f} ms", inference.engine_device or "unknown device"])
            events.append(Event(inference.finished_at, "Image analysed", detail))
        elif inference.finished_at and inference.state == WorkState.FAILED:
            events.append(Event(inference.finished_at, "Analysis given up", ": ".join([*by, inference.error])))
    for result in results:
        what = f"Result {result.version} of {result.bundle_name}"
        if result.finished_at and result.state == WorkState.DONE:
            events.append(Event(result.finished_at, what, f"urgency {result.urgency}"))
        elif result.finished_at and result.state == WorkState.FAILED:
            events.append(Event(result.finished_at, f"{what} given up", result.error))
    for each in objects:
        what = f"{each.stored.kind.replace('_', ' ').capitalize()} delivered"
        events += [
            Event(delivery.finished_at, what, f"{each.bundle_name}, {delivery.destination}")
            for delivery in each.deliveries
            if delivery.finished_at and delivery.state == WorkState.DONE
        ]
    if study.opened_at:
        events.append(Event(study.opened_at, "Opened", _by(study.opened_by)))
    if study.read_at and study.read_state == ReadState.READ:
        events.append(Event(study.read_at, "Marked as read", _by(study.read_by)))
    return events


def _withdrawn(session: Session, study: Study, results: Sequence[Result]) -> list[Event]:
    """What was taken back: images by rejection notes, results since nothing is left of them, files by retention."""
    rejected = session.execute(
        select(func.min(Rejection.noted_at), Rejection.reason, func.count())
        .where(Rejection.study_instance_uid == study.study_instance_uid)
        .group_by(Rejection.note_sop_instance_uid, Rejection.reason)
    )
    events = [
        Event(at, "Rejection note received", f"{RejectionReason(reason).code.meaning}, {number} named")
        for at, reason, number in rejected
    ]
    versions = {each.id: each for each in results}
    for withdrawal in session.scalars(select(Withdrawal).where(Withdrawal.result_id.in_(versions))):
        result = versions[withdrawal.result_id]
        what = f"Result {result.version} of {result.bundle_name} withdrawn"
        events.append(Event(withdrawal.created_at, what, RejectionReason(withdrawal.reason).code.meaning))
    if study.removed_at:
        events.append(Event(study.removed_at, "Files removed by retention"))
    return events


def _by(name: str) -> str:
    return f"by {name}" if name else "on this host"
