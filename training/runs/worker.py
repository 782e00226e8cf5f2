"""The training worker: a Celery worker on a queue of its own that makes bundles, and gives way to everything else.

`chexnode train worker`, and a part of `chexnode up` where the settings say so.
"""

import time
from typing import ClassVar

import structlog
from rich.console import Console

from node.bundles.activation import provide_shipped
from node.ledger.database import upgrade
from node.ledger.leases import Commit, Lease, claim, complete, perform, report
from node.ledger.ledger import Ledger, now, open_ledger
from node.monitoring.logs import configure_logs_of
from node.monitoring.presence import present
from node.queue import TRAINING, Publisher, make_celery, run_worker, stopping
from node.repeating import repeating
from schemas.errors import ChexnodeError
from schemas.settings import Settings, load_settings
from schemas.tables import TrainingRun
from training.regeneration.candidates import active_of_name, register_candidate
from training.regeneration.recipe import parse_recipe
from training.regeneration.regenerate import regenerate
from training.runs.giving_way import give_way
from training.runs.ledger import plan_scheduled

log = structlog.get_logger()

#: A process that gives way to all others may be late with renewing its lease.
_PATIENCE = 4
#: Between two words to the ledger.
_WORD_SECONDS = 2.0
#: Between two looks at the schedule.
_SCHEDULE_SECONDS = 20.0


class TrainingStoppedError(ChexnodeError):
    """The training worker was told to stop; the run goes on where it was."""

    retryable: ClassVar[bool] = True
    counts: ClassVar[bool] = False


class Trainer:
    """Makes the bundles of due runs, one after the other."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._work = settings.work.model_copy(update={"lease_seconds": _PATIENCE * settings.work.lease_seconds})
        self._attempts = settings.training.attempts

    def work(self) -> None:
        """Make bundles until no run is due."""
        while not stopping.is_set() and (lease := self._claim()) is not None:
            self._perform(lease)

    def _claim(self) -> Lease | None:
        return claim(self._ledger, TrainingRun, self._work, self._attempts)

    def _perform(self, lease: Lease) -> None:
        perform(self._ledger, lease, self._work, self._attempts, lambda: self._make(lease))

    def _make(self, lease: Lease) -> Commit:
        with self._ledger.read() as session:
            recipe = parse_recipe(session.get_one(TrainingRun, lease.row_id).recipe, f"run {lease.row_id}")
        cache = self._settings.training.cache or self._settings.home / "training"
        made = regenerate(
            recipe,
            cache,
            Console(),
            sources=self._settings.training.sources,
            active=active_of_name(self._ledger, self._settings, recipe.bundle.name),
            watcher=_LedgerWatcher(self._ledger, lease),
        )
        registered = register_candidate(self._ledger, self._settings, made)
        log.info("bundle made", run=lease.row_id, digest=made.bundle.digest[:12], registered=registered)
        verdict = made.verdict
        return lambda session: complete(
            session,
            lease,
            bundle_digest=made.bundle.digest,
            gate_passed=None if verdict is None else verdict.passed,
            gate_reasons="" if verdict is None else "\n".join(verdict.reasons),
            report=str(made.report.resolve()),
        )


class _LedgerWatcher:
    """Writes a run's progress into its row, under its lease: who has lost it stops here."""

    def __init__(self, ledger: Ledger, lease: Lease) -> None:
        self._ledger = ledger
        self._lease = lease
        self._last = 0.0

    def stage_began(self, name: str) -> None:
        self._check()
        self._last = time.monotonic()
        self._write(stage=name, stage_done=None, stage_total=None, stage_remaining_seconds=None)

    def advanced(self, done: float, total: float | None, remaining_seconds: float | None) -> None:
        self._check()
        if time.monotonic() - self._last < _WORD_SECONDS:
            return
        self._last = time.monotonic()
        self._write(stage_done=done, stage_total=total, stage_remaining_seconds=remaining_seconds)

    @staticmethod
    def _check() -> None:
        if stopping.is_set():
            raise TrainingStoppedError

    def _write(self, **values: str | float | None) -> None:
        self._ledger.write(lambda session: report(session, self._lease, heard_at=now(), **values))


def serve() -> None:
    """Run the worker until SIGTERM. Raises SettingsError for a schedule whose recipe cannot be used."""
    give_way()
    settings = load_settings()
    configure_logs_of(settings)
    ledger = open_ledger(settings)
    upgrade(ledger)
    provide_shipped(ledger, settings)
    publisher = Publisher(settings)
    since = time.time()

    def plan() -> None:
        try:
            run = ledger.write(lambda session: plan_scheduled(session, settings.training, since))
        except ChexnodeError as error:
            log.error("the scheduled training cannot be planned", error=error)
            return
        if run is not None:
            log.info("scheduled training", run=run.id, recipe=run.title)
            publisher.hint(TRAINING)

    app = make_celery(settings)
    app.task(Trainer(ledger, settings).work, name=TRAINING)
    publisher.hint(TRAINING)
    with present(ledger, "training"), repeating("training schedule", _SCHEDULE_SECONDS, plan):
        log.info("training worker ready", schedule=settings.training.schedule or "none")
        run_worker(app, [TRAINING], threads=1, name="training")
