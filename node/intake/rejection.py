"""Rejection notes (IHE RAD TF-3 4.66, Imaging Object Change Management): which instances are not to be used any more.

A Key Object Selection names them; they are kept, and neither analysed nor spoken of in results from then on. Asked by
node/intake/recording.py for every object that comes: a note may come before what it names.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog
from pydicom import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage
from sqlalchemy import ColumnElement, bindparam, delete, exists, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from node.intake.attributes import items, text
from node.intake.received import ReceivedFile
from node.intake.routing import Route, RouteReason
from node.ledger.ledger import now
from node.reading import lock_study
from schemas.change_tables import Rejection
from schemas.codes import RejectionReason
from schemas.result import OrderPriority
from schemas.tables import (
    Inference,
    Instance,
    Planned,
    Result,
    ResultImage,
    Series,
    StoredObject,
    Study,
    WorkState,
)

log = structlog.get_logger()

#: Value types of content items that name instances (PS3.16 TID 2010).
_REFERENCES = ("IMAGE", "COMPOSITE", "WAVEFORM")
#: Asked for every object that comes.
_IN_FORCE = select(Rejection).where(
    Rejection.study_instance_uid == bindparam("study_instance_uid"),
    Rejection.sop_instance_uid == bindparam("sop_instance_uid"),
    Rejection.lifted_at.is_(None),
)


@dataclass(frozen=True, order=True)
class NamedInstance:
    """An instance that a note names."""

    study_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class RejectionNote:
    """What a rejection note says."""

    sop_instance_uid: str
    reason: RejectionReason
    instances: tuple[NamedInstance, ...]


def rejection_note(received: ReceivedFile) -> RejectionNote | None:
    """What the object says, when it is a rejection note; None for all others, and for one that names nothing."""
    header = received.header
    if received.sop_class_uid != KeyObjectSelectionDocumentStorage:
        return None
    title = next(iter(items(header, "ConceptNameCodeSequence")), Dataset())
    if text(title, "CodingSchemeDesignator") != "DCM" or text(title, "CodeValue") not in set(RejectionReason):
        return None
    # The content says what is rejected, the evidence in which studies it lies (PS3.3 C.17.6.2.1).
    studies = dict(_evidence(header))
    named = {NamedInstance(studies.get(uid, received.study_instance_uid), uid) for uid in _content(header)}
    if not named:
        log.warning("a rejection note names no instance", study=received.study_instance_uid)
        return None
    return RejectionNote(
        received.sop_instance_uid, RejectionReason(text(title, "CodeValue")), instances=tuple(sorted(named))
    )


def rejected_for(session: Session, study_instance_uid: str, sop_instance_uid: str) -> RejectionReason | None:
    """Why an instance that has just come is not to be used, the most serious reason in force; None when it may be.

    One whose retention had expired may come again, which ends that reason (4.66.4.4.3); the others stay.
    """
    in_force = []
    named = {"study_instance_uid": study_instance_uid, "sop_instance_uid": sop_instance_uid}
    for rejection in session.scalars(_IN_FORCE, named):
        if rejection.reason == RejectionReason.RETENTION_EXPIRED:
            rejection.lifted_at = session.scalar(select(now()))
        else:
            in_force.append(RejectionReason(rejection.reason))
    return most_serious(in_force)


def most_serious(reasons: Iterable[RejectionReason]) -> RejectionReason | None:
    """The one of several that weighs most; None for none."""
    return min(reasons, key=list(RejectionReason).index, default=None)


def may_come_again(sop_instance_uid: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Condition: the instance was rejected for the expiry of its retention; its next coming ends that."""
    return exists().where(
        Rejection.sop_instance_uid == sop_instance_uid,
        Rejection.reason == RejectionReason.RETENTION_EXPIRED,
        Rejection.lifted_at.is_(None),
    )


def route_of_rejected(reason: RejectionReason) -> Route:
    """What becomes of a rejected instance instead of what routing says."""
    return Route(RouteReason.REJECTED, f"The PACS has withdrawn the image: {reason.code.meaning}.")


def reject(session: Session, note: RejectionNote) -> list[Study]:
    """Take what the note names out of use; returns the studies that changed, held, whose results are to be planned.

    Rejecting again, and what was never received, changes nothing now.
    """
    known = set(
        session.scalars(
            select(Rejection.sop_instance_uid).where(Rejection.note_sop_instance_uid == note.sop_instance_uid)
        )
    )
    session.add_all(
        Rejection(
            study_instance_uid=each.study_instance_uid,
            sop_instance_uid=each.sop_instance_uid,
            note_sop_instance_uid=note.sop_instance_uid,
            reason=note.reason,
            noted_at=now(),
        )
        for each in note.instances
        if each.sop_instance_uid not in known
    )
    session.flush()
    changed = []
    # In the order of their UIDs, so that two notes never wait for each other.
    for uid in sorted({each.study_instance_uid for each in note.instances}):
        study = lock_study(session, uid)
        if study is None:
            continue
        rejected = [each.sop_instance_uid for each in note.instances if each.study_instance_uid == uid]
        instances = _in_use(session, study, rejected)
        for instance in instances:
            _take_out(session, instance, note.reason)
        if instances:
            changed.append(study)
            log.info("instances rejected", study=uid, instances=len(instances), reason=note.reason.code.meaning)
    return changed


def _in_use(session: Session, study: Study, sop_instance_uids: Sequence[str]) -> Sequence[Instance]:
    return session.scalars(
        select(Instance)
        .join(Series)
        .where(
            Series.study_id == study.id,
            Instance.sop_instance_uid.in_(sop_instance_uids),
            # Our own results are no input anyway.
            Instance.route_reason.not_in([RouteReason.REJECTED, RouteReason.OWN_OBJECT]),
        )
    ).all()


def _take_out(session: Session, instance: Instance, reason: RejectionReason) -> None:
    route = route_of_rejected(reason)
    instance.selected, instance.route_reason, instance.route_explanation = False, route.reason, route.explanation
    instance.view, instance.age_years, instance.order_priority = "", None, OrderPriority.ROUTINE
    session.flush()
    drop_unfinished(session, instance)


def drop_unfinished(session: Session, instance: Instance) -> None:
    """Forget results that are being made from the image, and its analyses that nobody else waits for.

    None of it was ever seen outside. Whoever works on it finds its lease lost.
    """
    unfinished = (
        select(Result.id)
        .join(ResultImage, ResultImage.result_id == Result.id)
        .where(ResultImage.instance_id == instance.id, Result.state != WorkState.DONE)
    )
    for result_id in session.scalars(unfinished).all():
        for table in (StoredObject, ResultImage):
            session.execute(delete(table).where(table.result_id == result_id))
        session.execute(delete(Result).where(Result.id == result_id))
    session.execute(delete(Planned).where(Planned.study_id == instance.series.study_id))
    twin = aliased(Instance)
    session.execute(
        delete(Inference).where(
            Inference.pixel_digest == instance.pixel_digest,
            Inference.state.in_([WorkState.DUE, WorkState.FAILED]),
            ~exists().where(twin.pixel_digest == Inference.pixel_digest, twin.view != ""),
            ~exists().where(ResultImage.inference_id == Inference.id),
        )
    )


def _evidence(header: Dataset) -> Iterator[tuple[str, str]]:
    """SOP Instance UID and Study Instance UID of the evidence sequence."""
    for study in items(header, "CurrentRequestedProcedureEvidenceSequence"):
        for series in items(study, "ReferencedSeriesSequence"):
            for each in items(series, "ReferencedSOPSequence"):
                yield text(each, "ReferencedSOPInstanceUID"), text(study, "StudyInstanceUID")


def _content(header: Dataset) -> Iterator[str]:
    """SOP Instance UIDs that the document's content names; TID 2010 is one level deep."""
    for item in items(header, "ContentSequence"):
        if text(item, "ValueType") in _REFERENCES:
            for each in items(item, "ReferencedSOPSequence"):
                if uid := text(each, "ReferencedSOPInstanceUID"):
                    yield uid
