"""Recording: what a received object changes in the ledger, within the caller's transaction.

The three digests (node/intake/received.py) tell a duplicate, changed pixels and a changed header apart; what
contradicts goes into quarantine (node/intake/quarantine.py), what a rejection note names is kept out
(node/intake/rejection.py). Called by reception, and when an object leaves the quarantine.
"""

from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy import bindparam, delete, or_, select, update
from sqlalchemy.orm import Session

from node.bundles.inferences import inference_priority, queue_inference
from node.intake.received import ReceivedFile, text
from node.intake.rejection import (
    RejectionNote,
    drop_unfinished,
    may_come_again,
    reject,
    rejected_for,
    rejection_note,
    route_of_rejected,
)
from node.intake.routing import Route, RouteReason
from node.intake.study_description import describe
from node.ledger.ledger import now
from node.reading import lock_study, settle, start_waiting
from node.storage.object_store import ObjectStore
from node.storage.removal import is_wanted_again, note_removals
from node.triage import is_backfill, order_priority
from schemas.change_tables import Contradiction, Quarantined
from schemas.errors import OutOfResourcesError
from schemas.result import OrderPriority, Urgency
from schemas.settings import Settings
from schemas.tables import Inference, Instance, Outcome, Planned, ReadState, Reception, Series, StoredObject, Study

log = structlog.get_logger()

#: What a reader of chest radiographs has to look at: what is analysed, and what is set aside although it may be a chest
#: radiograph. Whether the model can read a study must not decide whether anybody does.
LISTED = {
    RouteReason.SELECTED,
    RouteReason.NO_PIXEL_DATA,
    RouteReason.COLOUR,
    RouteReason.MULTI_FRAME,
    RouteReason.BODY_PART_UNKNOWN,
    RouteReason.LATERAL,
    RouteReason.OTHER_VIEW,
    RouteReason.VIEW_UNKNOWN,
    RouteReason.TOO_SMALL,
    RouteReason.OUTSIDE_POPULATION,
    RouteReason.NO_BUNDLE,
}
#: What is asked for every object that comes: SQLAlchemy takes several times as long for a statement that is built anew.
_NOW = select(now())
_SERIES = select(Series).where(Series.series_instance_uid == bindparam("series_instance_uid"))
_INSTANCE = select(Instance).where(Instance.sop_instance_uid == bindparam("sop_instance_uid"))
_OWN = select(StoredObject.id).where(StoredObject.sop_instance_uid == bindparam("sop_instance_uid"))
_ORDER_PRIORITIES = select(Instance.order_priority).join(Series).where(Series.study_id == bindparam("study_id"))
_ROUTE_REASONS = select(Instance.route_reason).join(Series).where(Series.study_id == bindparam("study_id"))
_FORGET_PLANNED = (
    delete(Planned).where(Planned.study_id == bindparam("study_id")).execution_options(synchronize_session=False)
)
_CURRENT_FILE = select(Instance.file_sha256, Instance.removed_at).where(
    Instance.sop_instance_uid == bindparam("sop_instance_uid"),
    Instance.dataset_digest == bindparam("dataset_digest"),
    ~may_come_again(Instance.sop_instance_uid),
    or_(Instance.removed_at.is_(None), ~is_wanted_again(Instance.pixel_digest)),
)
_QUARANTINED_FILE = (
    select(Reception.file_sha256)
    .where(
        Reception.sop_instance_uid == bindparam("sop_instance_uid"),
        Reception.dataset_digest == bindparam("dataset_digest"),
        Reception.outcome == Outcome.QUARANTINED,
    )
    .limit(1)
)


@dataclass(frozen=True)
class Arrival:
    """A received object on its way into the ledger; its bytes lie in the object store already."""

    received: ReceivedFile
    sha256: str
    calling_ae_title: str
    #: What routing says of it.
    route: Route
    #: Since its last byte came.
    age_seconds: float


@dataclass(frozen=True)
class KnownFile:
    """A file that holds the very data set that has come again."""

    sha256: str
    #: Whether retention has removed it: nobody misses it.
    removed: bool


@dataclass(frozen=True)
class Recorded:
    """What became of an arrival."""

    #: None: a duplicate, of which nothing was recorded.
    outcome: Outcome | None
    #: Study Instance UIDs of studies in which a contradiction may be gone now (node/intake/quarantine.py).
    cleared: frozenset[str] = field(default_factory=frozenset)


class Recorder:
    """Records arrivals. Every method works within the caller's transaction and has no effect besides it."""

    def __init__(self, store: ObjectStore, settings: Settings) -> None:
        self._store = store
        self._quiet_seconds = settings.study.quiet_seconds
        self._triage = settings.triage

    def record(self, session: Session, arrival: Arrival, reception: Reception | None = None) -> Recorded:
        """Record an arrival.

        Parameters
        ----------
        reception
            Its row, when it was recorded before and comes out of the quarantine; None for what has just come.

        Raises
        ------
        OutOfResourcesError
            Its file was removed at this very moment; the sender has to send it again.
        """
        received, sha256 = arrival.received, arrival.sha256
        known = None if reception else known_file(session, received)
        if known:
            self._forget(session, received, known, sha256)
            return Recorded(None)
        study = lock_study(session, received.study_instance_uid)
        # Asked for once: a row with an expression in it takes SQLAlchemy twice as long.
        moment = session.scalars(_NOW).one()
        series = session.scalar(_SERIES, {"series_instance_uid": received.series_instance_uid})
        instance = session.scalar(_INSTANCE, {"sop_instance_uid": received.sop_instance_uid})
        route = self._route(session, arrival)
        contradiction = _contradiction(received, route, study, series, instance)
        outcome = Outcome.QUARANTINED if contradiction else _outcome(received, instance)
        if reception is None:
            reception = Reception(
                study_instance_uid=received.study_instance_uid,
                sop_instance_uid=received.sop_instance_uid,
                file_sha256=sha256,
                dataset_digest=received.dataset_digest,
                calling_ae_title=arrival.calling_ae_title,
                received_at=moment,
            )
            session.add(reception)
        reception.outcome, reception.detail = outcome, contradiction.words if contradiction else ""
        if contradiction:
            session.flush()
            session.add(
                Quarantined(
                    reception_id=reception.id,
                    contradiction=contradiction.kind,
                    patient_id=received.patient_id,
                    pixel_digest=received.pixel_digest,
                )
            )
            if study is not None:
                study.changed_at = moment
            return Recorded(outcome, frozenset({received.study_instance_uid}))
        if outcome is Outcome.RESTORED and not self._store.holds(sha256):
            raise OutOfResourcesError("Its earlier copy was being removed; send it again.")
        self._keep(session, arrival, route, outcome, study, series, instance, moment)
        note = rejection_note(received) if route.reason != RouteReason.OWN_OBJECT else None
        return Recorded(outcome, self._rejected(session, note) if note else frozenset())

    def _forget(self, session: Session, received: ReceivedFile, known: KnownFile, sha256: str) -> None:
        """A duplicate changes nothing, except that it may stand in for a file that was lost."""
        if known.removed:
            study = lock_study(session, received.study_instance_uid)
            if study is not None:
                note_removals(session, study.id, [sha256])
        elif known.sha256 != sha256 and not self._store.holds(known.sha256):
            _heal(session, known.sha256, sha256)

    def _route(self, session: Session, arrival: Arrival) -> Route:
        """What routing says, unless it is our own, or a rejection note named it."""
        received = arrival.received
        own = session.scalar(_OWN, {"sop_instance_uid": received.sop_instance_uid})
        if arrival.route.reason == RouteReason.OWN_OBJECT or own is not None:
            # Our result coming back is kept with its reception row, and never input.
            return Route(RouteReason.OWN_OBJECT, "The object is one of this node's own results.")
        reason = rejected_for(session, received.study_instance_uid, received.sop_instance_uid)
        return route_of_rejected(reason) if reason else arrival.route

    def _keep(
        self,
        session: Session,
        arrival: Arrival,
        route: Route,
        outcome: Outcome,
        study: Study | None,
        series: Series | None,
        instance: Instance | None,
        moment: float,
    ) -> None:
        received, sha256 = arrival.received, arrival.sha256
        if study is None:
            study = Study(study_instance_uid=received.study_instance_uid, first_received_at=moment)
            study.changed_at = study.last_received_at = moment
            study.urgency, study.order_priority, study.read_state = (
                Urgency.ROUTINE,
                OrderPriority.ROUTINE,
                ReadState.NEW,
            )
            session.add(study)
        if route.reason not in (RouteReason.OWN_OBJECT, RouteReason.REJECTED):
            describe(study, received.header)
        if series is None:
            series = Series(
                study=study,
                series_instance_uid=received.series_instance_uid,
                modality=text(received.header, "Modality")[:16],
            )
            session.add(series)
        was_chest = instance is not None and bool(instance.view)
        if instance is None:
            instance = Instance(series=series, sop_instance_uid=received.sop_instance_uid)
            session.add(instance)
        instance.sop_class_uid = received.sop_class_uid
        instance.transfer_syntax_uid = received.transfer_syntax_uid
        instance.file_sha256 = sha256
        instance.dataset_digest = received.dataset_digest
        instance.pixel_digest = received.pixel_digest
        instance.header_digest = received.header_digest
        instance.received_at = moment - arrival.age_seconds
        instance.removed_at = None
        instance.selected = route.selected
        instance.route_reason = route.reason
        instance.route_explanation = route.explanation
        instance.view = route.view.value if route.view else ""
        instance.age_years = route.age_years
        # A report or a result of ours that quotes the order does not speak for it, nor does what was rejected.
        silent = (RouteReason.OWN_OBJECT, RouteReason.NOT_AN_IMAGE, RouteReason.REJECTED)
        instance.order_priority = OrderPriority.ROUTINE if route.reason in silent else order_priority(received.header)
        study.last_received_at, study.removed_at = moment, None
        session.flush()
        # What is asked for from here on is in the tables; what changes goes there once, at the end.
        with session.no_autoflush:
            if route.reason == RouteReason.REJECTED:
                drop_unfinished(session, instance)
            self._prioritise(session, study)
            self._list(session, study, outcome, route, arrival.calling_ae_title)
            # Also of one that no bundle takes at present: a result may have to be withdrawn, or a bundle be activated.
            if route.view or was_chest:
                self._plan_again(session, study)
            priority = inference_priority(study)
            for digest in route.bundles:
                queue_inference(session, instance.pixel_digest, sha256, digest, priority)

    def _rejected(self, session: Session, note: RejectionNote) -> frozenset[str]:
        studies = reject(session, note)
        for study in studies:
            self._prioritise(session, study)
            self._unlist(session, study)
            self._plan_again(session, study)
        return frozenset(each.study_instance_uid for each in studies)

    def _plan_again(self, session: Session, study: Study) -> None:
        study.result_due_at = now() + self._quiet_seconds
        session.execute(_FORGET_PLANNED, {"study_id": study.id})

    def _prioritise(self, session: Session, study: Study) -> None:
        ordered = map(OrderPriority, session.scalars(_ORDER_PRIORITIES, {"study_id": study.id}))
        study.order_priority = min(ordered, key=list(OrderPriority).index)
        settle(session, study, self._triage.allowed_minutes)

    def _list(self, session: Session, study: Study, outcome: Outcome, route: Route, calling_ae_title: str) -> None:
        """Put a study with a chest radiograph on the worklist; backfill stays off it until a correction says better."""
        if study.waiting_since is None:
            if not _has_listed(session, study):
                return
            backfill = calling_ae_title in self._triage.backfill_calling_ae_titles or is_backfill(
                study.study_date_time, datetime.now(), self._triage.backfill_after_hours
            )
            if not backfill:
                start_waiting(session, study, self._triage.allowed_minutes)
        elif study.read_state == ReadState.READ and route.reason in LISTED and outcome in _NEWS:
            start_waiting(session, study, self._triage.allowed_minutes, "A new image came after it was read.")

    def _unlist(self, session: Session, study: Study) -> None:
        """Nobody has to read a study whose every image was rejected."""
        if not _has_listed(session, study):
            study.waiting_since = study.due_at = None


#: What a reader who has read the study has not seen.
_NEWS = (Outcome.NEW, Outcome.PIXELS_CHANGED)


def known_file(session: Session, received: ReceivedFile) -> KnownFile | None:
    """The file that holds this very data set already: the current version, or one in quarantine.

    A version that was superseded since is not looked at: its second coming is a change again. Nor is one that was
    removed and is wanted again.
    """
    data_set = {"sop_instance_uid": received.sop_instance_uid, "dataset_digest": received.dataset_digest}
    current = session.execute(_CURRENT_FILE, data_set).one_or_none()
    if current:
        return KnownFile(current.file_sha256, removed=current.removed_at is not None)
    quarantined = session.scalar(_QUARANTINED_FILE, data_set)
    return KnownFile(quarantined, removed=False) if quarantined else None


def _heal(session: Session, lost: str, sha256: str) -> None:
    """The same data set in a file with another group 0002 takes the place of a file that was lost."""
    for table in (Instance, Reception, Inference):
        session.execute(update(table).where(table.file_sha256 == lost).values(file_sha256=sha256))
    log.warning("a lost file was replaced", lost=lost, by=sha256)


def _outcome(received: ReceivedFile, instance: Instance | None) -> Outcome:
    if instance is None:
        return Outcome.NEW
    if instance.pixel_digest != received.pixel_digest:
        return Outcome.PIXELS_CHANGED
    if instance.dataset_digest != received.dataset_digest:
        return Outcome.HEADER_CHANGED
    return Outcome.RESTORED


def _has_listed(session: Session, study: Study) -> bool:
    return not LISTED.isdisjoint(session.scalars(_ROUTE_REASONS, {"study_id": study.id}))


@dataclass(frozen=True)
class _Contradiction:
    kind: Contradiction
    words: str


def _contradiction(
    received: ReceivedFile, route: Route, study: Study | None, series: Series | None, instance: Instance | None
) -> _Contradiction | None:
    """How the object contradicts what the ledger knows; None when it does not (PS3.5 section 9: UIDs are unique)."""
    if instance is not None and instance.series.series_instance_uid != received.series_instance_uid:
        return _Contradiction(
            Contradiction.OTHER_STUDY,
            f"The same SOP Instance UID is known in series {instance.series.series_instance_uid}.",
        )
    if series is not None and series.study.study_instance_uid != received.study_instance_uid:
        return _Contradiction(
            Contradiction.OTHER_STUDY,
            f"The same Series Instance UID is known in study {series.study.study_instance_uid}.",
        )
    # Our own results and what was rejected say nothing of the patient; an ID that is left out contradicts none.
    if route.reason in (RouteReason.OWN_OBJECT, RouteReason.REJECTED) or study is None:
        return None
    if study.patient_id and received.patient_id and study.patient_id != received.patient_id:
        return _Contradiction(
            Contradiction.OTHER_PATIENT, "The same Study Instance UID is known with another Patient ID."
        )
    return None
