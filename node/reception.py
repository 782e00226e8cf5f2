"""Reception: from a received file to ledger rows, one transaction, after which the sender may be told "success".

Called by the DIMSE service and by the start-up reconciliation; both modes of running and all peers go through here.
"""

from datetime import datetime
from enum import StrEnum
from time import monotonic

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from node.inferences import inference_priority, queue_inference
from node.ledger import Ledger, now
from node.object_store import FolderObjectStore
from node.reading import lock_study, settle, start_waiting
from node.received import ReceivedFile, text
from node.registry import active_bundles
from node.routing import Route, RoutedBundle, RouteReason, route
from node.study_description import describe
from node.triage import is_backfill, order_priority
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


class Answer(StrEnum):
    """What became of a received object."""

    KEPT = "kept"
    #: Byte for byte the data set that we hold already: acknowledged and forgotten.
    DUPLICATE = "duplicate"


class ReceptionDesk:
    """Takes in received files.

    Parameters
    ----------
    ledger, store
        Where rows and bytes go. Selected images are queued for the bundles that are active in the ledger.
    """

    def __init__(self, ledger: Ledger, store: FolderObjectStore, settings: Settings) -> None:
        self._ledger = ledger
        self._store = store
        self._quiet_seconds = settings.study.quiet_seconds
        self._triage = settings.triage

    def take(self, received: ReceivedFile, calling_ae_title: str, last_byte: float) -> Answer:
        """Keep the file durably and record it. When this returns, success may be answered.

        `last_byte` is when the last byte came, on time.monotonic().
        Raises OutOfResourcesError, or the database's error: then nothing was promised.
        """
        with self._ledger.read() as session:
            known = _known_file(session, received)
        if known and self._store.path(known).exists():
            received.path.unlink(missing_ok=True)
            return Answer.DUPLICATE
        sha256 = self._store.adopt(received.path)
        self.record(received, sha256, calling_ae_title, last_byte)
        return Answer.KEPT

    def record(self, received: ReceivedFile, sha256: str, calling_ae_title: str, last_byte: float) -> None:
        """Record a file that lies in the object store already."""
        with self._ledger.read() as session:
            bundles = [
                RoutedBundle(each.digest, each.manifest.name, each.manifest.population)
                for each in active_bundles(session)
            ]
        decision = route(received.header, bundles, has_pixel_data=received.has_pixel_data)
        # A bundle that is activated just now is given what was queued for the one before by the sweep.
        outcome = self._ledger.write(
            lambda session: self._record(session, received, sha256, calling_ae_title, decision, monotonic() - last_byte)
        )
        log.info(
            "received",
            study=received.study_instance_uid,
            instance=received.sop_instance_uid,
            calling=calling_ae_title,
            outcome=outcome,
            route=decision.reason,
        )

    def close_studies(self, study_instance_uids: set[str]) -> None:
        """The sender released its association: these studies need not wait for quiet."""

        def change(session: Session) -> None:
            for uid in sorted(study_instance_uids):
                study = lock_study(session, uid)
                if study is not None and study.result_due_at is not None:
                    study.result_due_at = now()

        self._ledger.write(change)

    def _record(
        self,
        session: Session,
        received: ReceivedFile,
        sha256: str,
        calling_ae_title: str,
        decision: Route,
        age_seconds: float,
    ) -> Outcome | Answer:
        if known := _known_file(session, received):
            if known != sha256 and not self._store.path(known).exists():
                _heal(session, known, sha256)
            return Answer.DUPLICATE
        study = lock_study(session, received.study_instance_uid)
        series = session.scalar(select(Series).where(Series.series_instance_uid == received.series_instance_uid))
        instance = session.scalar(select(Instance).where(Instance.sop_instance_uid == received.sop_instance_uid))
        conflict = _conflict(received, study, series, instance)
        outcome = (
            Outcome.CONFLICT
            if conflict
            else Outcome.NEW
            if instance is None
            else Outcome.PIXELS_CHANGED
            if instance.pixel_digest != received.pixel_digest
            else Outcome.HEADER_CHANGED
        )
        session.add(
            Reception(
                study_instance_uid=received.study_instance_uid,
                sop_instance_uid=received.sop_instance_uid,
                file_sha256=sha256,
                dataset_digest=received.dataset_digest,
                calling_ae_title=calling_ae_title,
                received_at=now(),
                outcome=outcome,
                detail=conflict,
            )
        )
        if conflict:
            if study is not None:
                study.changed_at = now()
            return outcome
        if _is_own(session, received):
            # Our result coming back is kept with its reception row, and never input.
            decision = Route(RouteReason.OWN_OBJECT, "The object is one of this node's own results.")
        if study is None:
            study = Study(study_instance_uid=received.study_instance_uid, first_received_at=now())
            study.changed_at = study.last_received_at = now()
            study.urgency, study.order_priority, study.read_state = (
                Urgency.ROUTINE,
                OrderPriority.ROUTINE,
                ReadState.NEW,
            )
            session.add(study)
        if decision.reason != RouteReason.OWN_OBJECT:
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
        instance.received_at = now() - age_seconds
        instance.selected = decision.selected
        instance.route_reason = decision.reason
        instance.route_explanation = decision.explanation
        instance.view = decision.view.value if decision.view else ""
        instance.age_years = decision.age_years
        # A report or a result of ours that quotes the order does not speak for it.
        speaks = decision.reason not in (RouteReason.OWN_OBJECT, RouteReason.NOT_AN_IMAGE)
        instance.order_priority = order_priority(received.header) if speaks else OrderPriority.ROUTINE
        study.last_received_at = now()
        session.flush()
        ordered = select(Instance.order_priority).join(Series).where(Series.study_id == study.id)
        study.order_priority = min(map(OrderPriority, session.scalars(ordered)), key=list(OrderPriority).index)
        settle(session, study, self._triage.allowed_minutes)
        self._list(session, study, outcome, decision, calling_ae_title)
        # Also of one that no bundle takes at present: a result may have to be withdrawn, or a bundle be activated.
        if decision.view or was_chest:
            study.result_due_at = now() + self._quiet_seconds
            session.execute(delete(Planned).where(Planned.study_id == study.id))
        priority = inference_priority(study)
        for digest in decision.bundles:
            queue_inference(session, instance.pixel_digest, sha256, digest, priority)
        return outcome

    def _list(self, session: Session, study: Study, outcome: Outcome, decision: Route, calling_ae_title: str) -> None:
        """Put a study with a chest radiograph on the worklist; backfill stays off it until a correction says better."""
        if study.waiting_since is None:
            reasons = session.scalars(select(Instance.route_reason).join(Series).where(Series.study_id == study.id))
            if LISTED.isdisjoint(reasons):
                return
            backfill = calling_ae_title in self._triage.backfill_calling_ae_titles or is_backfill(
                study.study_date_time, datetime.now(), self._triage.backfill_after_hours
            )
            if not backfill:
                start_waiting(session, study, self._triage.allowed_minutes)
        elif study.read_state == ReadState.READ and decision.reason in LISTED and outcome != Outcome.HEADER_CHANGED:
            start_waiting(session, study, self._triage.allowed_minutes, "A new image came after it was read.")


def _known_file(session: Session, received: ReceivedFile) -> str | None:
    """SHA-256 of the file that holds this very data set already: the current version, or one that is set aside.

    A version that was superseded since is not looked at: its second coming is a change again.
    """
    current = select(Instance.file_sha256).where(
        Instance.sop_instance_uid == received.sop_instance_uid, Instance.dataset_digest == received.dataset_digest
    )
    conflicting = select(Reception.file_sha256).where(
        Reception.sop_instance_uid == received.sop_instance_uid,
        Reception.dataset_digest == received.dataset_digest,
        Reception.outcome == Outcome.CONFLICT,
    )
    return session.scalar(current) or session.scalar(conflicting.limit(1))


def _heal(session: Session, lost: str, sha256: str) -> None:
    """The same data set in a file with another group 0002 takes the place of a file that was lost."""
    for table in (Instance, Reception, Inference):
        session.execute(update(table).where(table.file_sha256 == lost).values(file_sha256=sha256))
    log.warning("a lost file was replaced", lost=lost, by=sha256)


def _is_own(session: Session, received: ReceivedFile) -> bool:
    own = select(StoredObject.id).where(StoredObject.sop_instance_uid == received.sop_instance_uid)
    return session.scalar(own) is not None


def _conflict(received: ReceivedFile, study: Study | None, series: Series | None, instance: Instance | None) -> str:
    """Why the object contradicts what the ledger knows, "" when it does not (PS3.5 section 9: UIDs are unique)."""
    if instance is not None and instance.series.series_instance_uid != received.series_instance_uid:
        return f"The same SOP Instance UID is known in series {instance.series.series_instance_uid}."
    if series is not None and series.study.study_instance_uid != received.study_instance_uid:
        return f"The same Series Instance UID is known in study {series.study.study_instance_uid}."
    if study is not None and study.patient_id != received.patient_id:
        return "The same Study Instance UID is known with another Patient ID."
    return ""
