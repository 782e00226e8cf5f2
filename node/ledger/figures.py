"""What the ledger says of queues, worklist and time to result: a few indexed queries, for metrics and alerts."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, func, select, true
from sqlalchemy.orm import Session

from node.bundles.registry import active_bundles
from node.ledger.leases import WORK_TABLES, WorkTable
from node.ledger.ledger import now
from node.monitoring.presence import present_processes
from node.results.planning import is_complete
from schemas.change_tables import Quarantined
from schemas.destination_tables import Breaker, CommitmentInquiry, DestinationState
from schemas.result import Urgency
from schemas.settings import Settings
from schemas.tables import (
    Commitment,
    Delivery,
    Instance,
    Process,
    Result,
    ResultImage,
    ServedBundle,
    Study,
    TrainingRun,
    WorkState,
)

#: Time to result and to delivery is that of so many latest ones, none of them older than this.
_LATEST = 200
_LATELY_SECONDS = 3600.0


#: Stages but for deliveries.
_TABLES = (*(table for table in WORK_TABLES if table is not Delivery), CommitmentInquiry, TrainingRun)


@dataclass(frozen=True)
class StageFigures:
    """Rows of one stage that are not done; of deliveries those of one destination."""

    #: Table: inference, result, withdrawal, picture, delivery, commitment_inquiry, training_run.
    stage: str
    #: "" for all but deliveries.
    destination: str
    due: int
    leased: int
    failed: int
    #: How long the row has been due that nobody has claimed for longest, seconds.
    overdue_seconds: float
    #: Age of the oldest row that is due or leased, seconds.
    oldest_seconds: float


@dataclass(frozen=True)
class DestinationFigures:
    """A destination of the settings."""

    name: str
    #: It does not take results at present, and is tried now and then.
    breaker_open: bool
    #: Delivered objects whose storage commitment is to be asked for, was asked for, or was given up.
    commitments_wanted: int
    commitments_requested: int
    commitments_failed: int


@dataclass(frozen=True)
class BundleFigures:
    """An active bundle and how many workers serve it."""

    name: str
    version: str
    served_by: int


@dataclass(frozen=True)
class UrgencyFigures:
    """Studies on the worklist that somebody has to read."""

    urgency: Urgency
    studies: int


@dataclass(frozen=True)
class LatencyFigures:
    """From a study's last byte until its result was there, or an object of it was delivered, seconds."""

    #: "result" or "delivery".
    until: str
    p50: float
    p95: float


@dataclass(frozen=True)
class LedgerFigures:
    """All of it, as of one moment."""

    stages: list[StageFigures]
    #: Complete studies whose result is to be planned, and how long the first of them has waited, seconds.
    studies_due: int
    studies_overdue_seconds: float
    destinations: list[DestinationFigures]
    #: Objects that contradict what is known: kept and not used.
    quarantined: int
    worklist: list[UrgencyFigures]
    latencies: list[LatencyFigures]
    bundles: list[BundleFigures]
    processes: list[Process]
    #: The database's clock.
    at: float


def read_figures(session: Session, settings: Settings) -> LedgerFigures:
    """What the ledger says at this moment."""
    stages = [_stage(session, table) for table in _TABLES]
    # One query for each: the index begins with the destination.
    stages += [_stage(session, Delivery, each.name) for each in settings.destinations]
    complete = is_complete()
    studies, since = session.execute(select(func.count(), now() - func.min(Study.result_due_at)).where(complete)).one()
    return LedgerFigures(
        stages=stages,
        studies_due=studies,
        studies_overdue_seconds=since or 0.0,
        destinations=[_destination(session, each.name) for each in settings.destinations],
        quarantined=session.scalars(select(func.count()).select_from(Quarantined)).one(),
        worklist=_worklist(session),
        latencies=[each for each in (_until_result(session), _until_delivery(session)) if each],
        bundles=_bundles(session),
        processes=present_processes(session),
        at=session.scalars(select(now())).one(),
    )


def _stage(session: Session, table: WorkTable, destination: str = "") -> StageFigures:
    mine: ColumnElement[bool] = Delivery.destination == destination if destination else true()
    open_states = [WorkState.DUE, WorkState.LEASED, WorkState.FAILED]
    rows = session.execute(
        select(table.state, func.count(), now() - func.min(table.due_at), now() - func.min(table.created_at))
        .where(table.state.in_(open_states), mine)
        .group_by(table.state)
    )
    counts, overdue, ages = {}, {}, {}
    for state, count, since_due, age in rows:
        counts[state], overdue[state], ages[state] = count, since_due, age
    return StageFigures(
        stage=table.__tablename__,
        destination=destination,
        due=counts.get(WorkState.DUE, 0),
        leased=counts.get(WorkState.LEASED, 0),
        failed=counts.get(WorkState.FAILED, 0),
        overdue_seconds=max(0.0, overdue.get(WorkState.DUE, 0.0)),
        oldest_seconds=max(0.0, *(ages.get(state, 0.0) for state in (WorkState.DUE, WorkState.LEASED))),
    )


def _destination(session: Session, name: str) -> DestinationFigures:
    breaker = session.scalar(select(DestinationState.breaker).where(DestinationState.destination == name))
    open_states = [Commitment.WANTED, Commitment.REQUESTED, Commitment.FAILED]
    counts = dict(
        session.execute(
            select(Delivery.commitment, func.count())
            .where(Delivery.destination == name, Delivery.commitment.in_(open_states))
            .group_by(Delivery.commitment)
        ).all()
    )
    wanted, requested, failed = (counts.get(state, 0) for state in open_states)
    return DestinationFigures(name, breaker == Breaker.OPEN, wanted, requested, failed)


def _worklist(session: Session) -> list[UrgencyFigures]:
    waiting = select(Study.urgency, func.count()).where(Study.due_at.is_not(None)).group_by(Study.urgency)
    counts = dict(session.execute(waiting).all())
    return [UrgencyFigures(urgency, counts.get(urgency, 0)) for urgency in Urgency]


def _until_result(session: Session) -> LatencyFigures | None:
    latest = (
        select(Result.id, Result.finished_at)
        .join(Study, Study.id == Result.study_id)
        .where(Result.state == WorkState.DONE, Study.waiting_since.is_not(None))
        .order_by(Result.id.desc())
        .limit(_LATEST)
        .subquery()
    )
    return _latency("result", session, select(latest.c.id, latest.c.finished_at))


def _until_delivery(session: Session) -> LatencyFigures | None:
    latest = (
        select(Delivery.result_id, Delivery.finished_at)
        .join(Result, Result.id == Delivery.result_id)
        .join(Study, Study.id == Result.study_id)
        .where(Delivery.state == WorkState.DONE, Study.waiting_since.is_not(None))
        .order_by(Delivery.id.desc())
        .limit(_LATEST)
        .subquery()
    )
    return _latency("delivery", session, select(latest.c.result_id, latest.c.finished_at))


def _latency(until: str, session: Session, latest: Select[int, float | None]) -> LatencyFigures | None:
    """Quantiles over `latest`, pairs of a result's key and when it (or an object of it) was through."""
    ends = [(key, end) for key, end in session.execute(latest) if end]
    last_bytes = dict(
        session.execute(
            select(ResultImage.result_id, func.max(Instance.received_at))
            .join(Instance, Instance.id == ResultImage.instance_id)
            .where(ResultImage.result_id.in_({key for key, _ in ends}))
            .group_by(ResultImage.result_id)
        ).all()
    )
    lately = session.scalars(select(now())).one() - _LATELY_SECONDS
    # An image that came again after its result was made is that of the next one.
    seconds = sorted(
        end - last_bytes[key] for key, end in ends if end > lately and key in last_bytes and end >= last_bytes[key]
    )
    if not seconds:
        return None
    return LatencyFigures(until, seconds[len(seconds) // 2], seconds[min(len(seconds) - 1, len(seconds) * 95 // 100)])


def _bundles(session: Session) -> list[BundleFigures]:
    present = {each.id for each in present_processes(session)}
    serving = session.execute(
        select(ServedBundle.bundle_digest, ServedBundle.process_id).where(ServedBundle.error == "")
    )
    served = [digest for digest, process in serving if process in present]
    return [
        BundleFigures(each.manifest.name, each.manifest.version, served.count(each.digest))
        for each in active_bundles(session)
    ]
