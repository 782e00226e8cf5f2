"""Quarantine: what is set aside with its reason and its bytes, and how it gets out again.

Two kinds are in it: objects that contradict what is known of their study, and work that was given up after so many
attempts. Neither is tried again by itself, with one exception: a study whose every object has come again with another
Patient ID was corrected, and its objects are released (docs/decisions/020-corrected-patients.md).
"""

from collections.abc import Sequence

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.bundles.registry import routed_bundles
from node.intake.quarantine_entries import EntryName, Kind, find_entry
from node.intake.received import read_received
from node.intake.recording import Arrival, Recorded, Recorder
from node.intake.routing import RouteReason, route
from node.ledger.leases import WorkTable, make_due_again
from node.ledger.ledger import Ledger, now
from node.reading import lock_study
from node.storage.object_store import ObjectStore
from schemas.change_tables import Contradiction, Quarantined, Rejection, Withdrawal
from schemas.errors import ChexnodeError, NotReleasedError
from schemas.settings import Settings
from schemas.tables import Inference, Instance, Outcome, Picture, Reception, Result, Series, Study

log = structlog.get_logger()


def release_corrected(
    ledger: Ledger, store: ObjectStore, recorder: Recorder, study_instance_uid: str, patient_id: str | None = None
) -> int:
    """Take in the objects of a study whose patient was corrected, all in one transaction; returns how many.

    The study was corrected when every object of it that is in use, rejection notes aside, lies in quarantine with the
    same new Patient ID and unchanged pixels. A file that cannot be read leaves all of them where they are.

    `patient_id` where an operator knows that it is the right one: then nothing else needs to have come.
    """
    with ledger.read() as session:
        held = _corrected(session, study_instance_uid, patient_id)
        files = {each.id: (each.reception.file_sha256, each.reception.calling_ae_title) for each in held}
        bundles = routed_bundles(session)
    if not held:
        return 0
    arrivals = {}
    for key, (sha256, calling_ae_title) in files.items():
        try:
            with store.file(sha256) as path:
                received = read_received(path)
        except (ChexnodeError, OSError) as error:
            log.error("an object in quarantine cannot be read", study=study_instance_uid, file=sha256, error=error)
            return 0
        decision = route(received.header, bundles, has_pixel_data=received.has_pixel_data)
        arrivals[key] = Arrival(received, sha256, calling_ae_title, decision, 0.0)

    def change(session: Session) -> int:
        study = lock_study(session, study_instance_uid)
        still = _corrected(session, study_instance_uid, patient_id)
        if study is None or {each.id for each in still} != set(arrivals):
            return 0  # somebody else has released them, or another object has come: whoever brought it looks again
        study.patient_id = still[0].patient_id
        for each in still:
            _record(session, recorder, each, arrivals[each.id])
        return len(still)

    released = ledger.write(change)
    if released:
        log.info("the patient of a study was corrected", study=study_instance_uid, objects=released)
    return released


def retry(ledger: Ledger, store: ObjectStore, settings: Settings, name: EntryName) -> None:
    """Take one entry up again: its work is due, its object taken in if it contradicts no longer.

    Raises NotReleasedError, or what is wrong with the object's file.
    """
    if name.kind is Kind.OBJECT:
        _release(ledger, store, Recorder(store, settings), name.row)
        return
    with ledger.read() as session:
        find_entry(session, name)
    table = _WORK[name.kind]
    if not ledger.write(lambda session: make_due_again(session, table, table.id == name.row)):
        raise NotReleasedError("Somebody has taken it up already.")


def correct_patient(ledger: Ledger, store: ObjectStore, settings: Settings, name: EntryName) -> int:
    """The object's Patient ID is the right one: take in all that the study has in quarantine with it; returns how many.

    Raises NotReleasedError when that is not what the object contradicts.
    """
    with ledger.read() as session:
        find_entry(session, name)
        quarantined = session.get(Quarantined, name.row) if name.kind is Kind.OBJECT else None
        if quarantined is None or quarantined.contradiction != Contradiction.OTHER_PATIENT:
            raise NotReleasedError(f"{name} is no object of another patient.")
        study_instance_uid, patient_id = quarantined.reception.study_instance_uid, quarantined.patient_id
    return release_corrected(ledger, store, Recorder(store, settings), study_instance_uid, patient_id)


_WORK: dict[Kind, WorkTable] = {
    Kind.ANALYSIS: Inference,
    Kind.RESULT: Result,
    Kind.WITHDRAWAL: Withdrawal,
    Kind.PICTURE: Picture,
}


def held_studies(session: Session) -> Sequence[str]:
    """Study Instance UIDs of studies that may be corrected: objects of another patient are in quarantine."""
    return session.scalars(
        select(Reception.study_instance_uid)
        .join(Quarantined, Quarantined.reception_id == Reception.id)
        .where(Quarantined.contradiction == Contradiction.OTHER_PATIENT)
        .distinct()
    ).all()


def _release(ledger: Ledger, store: ObjectStore, recorder: Recorder, key: int) -> None:
    with ledger.read() as session:
        quarantined = session.get(Quarantined, key)
        if quarantined is None:
            raise NotReleasedError("It is not in quarantine any more.")
        sha256, calling_ae_title = quarantined.reception.file_sha256, quarantined.reception.calling_ae_title
        bundles = routed_bundles(session)
    with store.file(sha256) as path:
        received = read_received(path)
    decision = route(received.header, bundles, has_pixel_data=received.has_pixel_data)
    arrival = Arrival(received, sha256, calling_ae_title, decision, 0.0)

    def change(session: Session) -> str:
        found = session.get(Quarantined, key)
        if found is None:
            return ""
        recorded = _record(session, recorder, found, arrival)
        return found.reception.detail if recorded.outcome is Outcome.QUARANTINED else ""

    if reason := ledger.write(change):
        raise NotReleasedError(reason)
    release_corrected(ledger, store, recorder, received.study_instance_uid)


def _corrected(session: Session, study_instance_uid: str, patient_id: str | None) -> Sequence[Quarantined]:
    """The objects in quarantine that together correct the study's patient, in the order in which they came."""
    held = session.scalars(
        select(Quarantined)
        .join(Reception)
        .where(
            Reception.study_instance_uid == study_instance_uid,
            Quarantined.contradiction == Contradiction.OTHER_PATIENT,
        )
        .order_by(Quarantined.id)
    ).all()
    if patient_id is not None:
        return [each for each in held if each.patient_id == patient_id]
    if not held:
        return []
    # Of several corrections the last one counts.
    corrections = [each for each in held if each.patient_id == held[-1].patient_id]
    came = {(each.reception.sop_instance_uid, each.pixel_digest) for each in corrections}
    in_use = session.execute(
        select(Instance.sop_instance_uid, Instance.pixel_digest)
        .join(Series)
        .join(Study)
        .where(
            Study.study_instance_uid == study_instance_uid,
            Instance.route_reason.not_in([RouteReason.OWN_OBJECT, RouteReason.REJECTED]),
            Instance.sop_instance_uid.not_in(select(Rejection.note_sop_instance_uid)),
        )
    )
    return corrections if all((uid, digest) in came for uid, digest in in_use) else []


def _record(session: Session, recorder: Recorder, quarantined: Quarantined, arrival: Arrival) -> Recorded:
    """Record an object anew, as if it came now; it goes back into quarantine where it contradicts still."""
    reception = quarantined.reception
    session.delete(quarantined)
    session.flush()
    at = session.scalar(select(now())) or 0.0
    arrival = Arrival(
        arrival.received, reception.file_sha256, arrival.calling_ae_title, arrival.route, at - reception.received_at
    )
    recorded = recorder.record(session, arrival, reception)
    if recorded.outcome is not Outcome.QUARANTINED:
        reception.detail = "Taken out of quarantine."
    return recorded
