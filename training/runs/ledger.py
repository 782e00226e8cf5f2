"""Training runs in the ledger: submitted, planned by the schedule, and listed. The ledger is the truth about them.

Called by `chexnode train submit` and `status`, and by the training worker.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from node.ledger.ledger import now
from schemas.settings import TrainingSettings
from schemas.tables import TrainingRun, WorkState
from training.regeneration.recipe import default_recipe, parse_recipe, read_text
from training.runs.schedule import latest_moment

#: A run that was heard of longer ago than this has stopped, whatever its lease says.
SILENT_SECONDS = 120.0


@dataclass(frozen=True)
class ListedRun:
    """A run as `status` shows it."""

    id: int
    title: str
    #: "due", "leased" (under way), "done" or "failed"
    state: str
    submitted_at: datetime
    #: The moment of the schedule that it is for; None: somebody submitted it.
    scheduled_for: datetime | None
    finished_at: datetime | None
    attempts: int
    stage: str
    #: Of the stage, 0..1, and the seconds that it will still take; None: not known.
    stage_share: float | None
    stage_remaining_seconds: float | None
    heard_at: datetime | None
    #: Under way, and its worker has said nothing for minutes.
    silent: bool
    bundle_digest: str | None
    #: None: not judged.
    gate_passed: bool | None
    gate_reasons: list[str]
    report: str
    error: str


def submit(session: Session, recipe: str, origin: str) -> TrainingRun:
    """Add a run of a recipe, TOML text of the file `origin`. Raises SettingsError when it is none."""
    run = _run(recipe, origin)
    session.add(run)
    session.flush()
    return run


def plan_scheduled(session: Session, settings: TrainingSettings, since: float) -> TrainingRun | None:
    """Add the run whose moment of the schedule has come, once among all workers; None when there is none.

    While a run of the schedule is not finished, no other is added. `since`: the moment from which on the schedule holds
    where it has never run. Raises SettingsError for a recipe that cannot be used.
    """
    if not settings.schedule:
        return None
    planned = select(func.max(TrainingRun.scheduled_for))
    after = session.scalar(planned) or since
    until = session.scalar(select(now()))
    assert until is not None
    moment = latest_moment(settings.schedule, _time(after), _time(until))
    open_ = TrainingRun.scheduled_for.is_not(None), TrainingRun.state.in_([WorkState.DUE, WorkState.LEASED])
    if moment is None or session.scalar(select(TrainingRun.id).where(*open_).limit(1)) is not None:
        return None
    path = settings.recipe or default_recipe()
    run = _run(read_text(path), str(path))
    run.scheduled_for = moment.timestamp()
    session.add(run)
    session.flush()
    return run


def listed_runs(session: Session, limit: int) -> list[ListedRun]:
    """The latest runs, the newest first."""
    present = session.scalar(select(now()))
    assert present is not None
    rows = session.scalars(select(TrainingRun).order_by(TrainingRun.id.desc()).limit(limit))
    return [_listed(row, present) for row in rows]


def _run(recipe: str, origin: str) -> TrainingRun:
    bundle = parse_recipe(recipe, origin).bundle
    return TrainingRun(title=f"{bundle.name} {bundle.version}", recipe=recipe, due_at=now(), created_at=now())


def _listed(row: TrainingRun, present: float) -> ListedRun:
    under_way = row.state == WorkState.LEASED
    share = row.stage_done / row.stage_total if row.stage_total and row.stage_done is not None else None
    heard = row.heard_at or row.started_at
    return ListedRun(
        id=row.id,
        title=row.title,
        state=row.state,
        submitted_at=_time(row.created_at),
        scheduled_for=None if row.scheduled_for is None else _time(row.scheduled_for),
        finished_at=None if row.finished_at is None else _time(row.finished_at),
        attempts=row.attempts,
        stage=row.stage,
        stage_share=share if under_way else None,
        stage_remaining_seconds=row.stage_remaining_seconds if under_way else None,
        heard_at=None if heard is None else _time(heard),
        silent=under_way and heard is not None and present - heard > SILENT_SECONDS,
        bundle_digest=row.bundle_digest,
        gate_passed=row.gate_passed,
        gate_reasons=row.gate_reasons.splitlines(),
        report=row.report,
        error=row.error,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
