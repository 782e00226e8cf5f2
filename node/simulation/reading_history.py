"""The worklist's past, from the ledger, as studies that arrive anew in a simulated reading room.

Used by `chexnode triage simulate --history`. What a study really had is not in the ledger: results are by flag and
urgency alone.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from sqlalchemy import make_url, select
from sqlalchemy.orm import Session

from node.ledger.database import current_revision, head_revision
from node.ledger.ledger import Ledger, now
from node.simulation.reading_room import ArrivingStudy
from node.triage import study_urgency
from schemas.errors import ChexnodeError
from schemas.result import OrderPriority, Urgency
from schemas.settings import Settings
from schemas.tables import Study

#: Fewer listed studies say nothing about a distribution.
LEAST_STUDIES = 20
#: Readings that can be timed, below which they are drawn from the log-normal distribution of the options.
LEAST_READINGS = 20
#: A longer time between two readings of the same radiologist was a pause, minutes.
PAUSE_MINUTES = 15.0


class HistoryError(ChexnodeError):
    """The ledger holds too little history to replay."""


@dataclass(frozen=True)
class PastStudy:
    """A study that was on the worklist. Times: seconds since 1970 UTC."""

    waiting_since: float
    urgency: Urgency
    #: Of the order alone.
    ordered: Urgency
    #: None: no result yet.
    flagged: bool | None
    #: When somebody first looked at it or marked it as read; None while it waits.
    begun_at: float | None
    read_at: float | None
    read_by: str

    @property
    def waited_minutes(self) -> float | None:
        return None if self.begun_at is None else (self.begun_at - self.waiting_since) / 60


def ledger_past(settings: Settings, days: float) -> list[PastStudy]:
    """`past_studies` of the ledger of these settings. Raises HistoryError as well where there is none to read."""
    url = make_url(settings.resolved_ledger_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise HistoryError(f"There is no ledger {url.database} yet: run chexnode up, or leave out --history.")
    ledger = Ledger(settings.resolved_ledger_url)
    try:
        if current_revision(ledger) != head_revision():
            raise HistoryError("The ledger is not up to date: run chexnode db upgrade.")
        with ledger.read() as session:
            return past_studies(session, days)
    finally:
        ledger.close()


def past_studies(session: Session, days: float) -> list[PastStudy]:
    """Everything on the worklist since `days` ago, read or not, by time. Raises HistoryError when that is too little.

    A study that was put on the list again counts from then on, with the urgency that it has now.
    """
    listed = select(Study).where(Study.waiting_since >= now() - days * 86400).order_by(Study.waiting_since)
    past = [_past(study) for study in session.scalars(listed)]
    if len(past) < LEAST_STUDIES:
        stated = "1 study" if len(past) == 1 else f"{len(past)} studies"
        raise HistoryError(
            f"{stated} came onto the worklist in the last {days:g} days; {LEAST_STUDIES} are needed. Chest radiographs "
            "are listed as they come; priors and migrations never are. Look further back with --days, or leave out "
            "--history to simulate arrivals."
        )
    return past


def timed_readings(past: Sequence[PastStudy]) -> list[float]:
    """Minutes per reading, from the times at which the same radiologist marked one study after the other as read.

    Only where the next one was already waiting, so that nobody waited for work, and without pauses. Marks set in one
    go (several studies within a second) are no readings and are left out.
    """
    by_radiologist: dict[str, list[PastStudy]] = {}
    for study in past:
        if study.read_at is not None:
            by_radiologist.setdefault(study.read_by, []).append(study)
    minutes = [
        (after.read_at - before.read_at) / 60
        for studies in by_radiologist.values()
        for before, after in pairwise(sorted(studies, key=lambda study: study.read_at or 0.0))
        if before.read_at is not None and after.read_at is not None and after.waiting_since <= before.read_at
    ]
    return [each for each in minutes if 1 / 60 <= each <= PAUSE_MINUTES]


def arriving_again(
    past: Sequence[PastStudy], readings: Sequence[float], results_after: float, generator: random.Random
) -> list[ArrivingStudy]:
    """The past as arrivals from the Monday 00:00 before the first, local time; readings are drawn from `readings`.

    Parameters
    ----------
    results_after
        From arrival to result, minutes.
    """
    local = [datetime.fromtimestamp(study.waiting_since) for study in past]
    monday = min(local).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=min(local).weekday())
    studies = [
        ArrivingStudy(
            arrived=(came - monday) / timedelta(minutes=1),
            reading_minutes=generator.choice(readings),
            urgency=study.urgency,
            ordered=study.ordered,
            results_after=results_after,
            flagged=bool(study.flagged),
        )
        for came, study in zip(local, past, strict=True)
    ]
    # At the end of summer time an hour comes twice.
    return sorted(studies, key=lambda study: study.arrived)


def _past(study: Study) -> PastStudy:
    assert study.waiting_since is not None
    looked = [each for each in (study.opened_at, study.read_at) if each is not None and each >= study.waiting_since]
    read = study.read_at is not None and study.read_at >= study.waiting_since
    return PastStudy(
        waiting_since=study.waiting_since,
        urgency=Urgency(study.urgency),
        ordered=study_urgency(Urgency.ROUTINE, OrderPriority(study.order_priority)),
        flagged=study.malpositioned_tube,
        begun_at=min(looked, default=None),
        read_at=study.read_at if read else None,
        read_by=study.read_by,
    )
