"""Triage: how soon a study wants a reader. Pure functions of its current results, its order and the settings."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydicom import Dataset

from node.intake.attributes import items, text
from schemas.codes import Category, TubePosition
from schemas.result import ImageResult, OrderPriority, Urgency
from schemas.settings import AllowedWaits

_URGENCY = {
    Category.IMMEDIATE: Urgency.IMMEDIATE,
    Category.URGENT: Urgency.URGENT,
    Category.SOON: Urgency.SOON,
}
#: What an order alone makes of a study.
_ORDERED = {
    OrderPriority.STAT: Urgency.URGENT,
    OrderPriority.HIGH: Urgency.SOON,
    OrderPriority.ROUTINE: Urgency.ROUTINE,
}
_ORDER = [Urgency.IMMEDIATE, Urgency.URGENT, Urgency.SOON, Urgency.ROUTINE]


def urgency(images: Iterable[ImageResult]) -> Urgency:
    """The most pressing category of any present finding and any tube position; routine when there is none."""
    categories: list[Category] = []
    for image in images:
        categories += [
            category for result in image.findings if result.present and (category := result.finding.category)
        ]
        categories += [category for tube in image.tubes if tube.position and (category := tube.position.category)]
    return most_pressing(_URGENCY[category] for category in categories)


def malpositioned_tube(images: Iterable[ImageResult]) -> bool:
    """The flag of the worklist: any tube lies abnormally."""
    return any(tube.position is TubePosition.ABNORMAL for image in images for tube in image.tubes)


def order_priority(header: Dataset) -> OrderPriority:
    """Requested Procedure Priority (0040,1003), at the top or in the Request Attributes Sequence; routine without."""
    stated = [
        text(each, "RequestedProcedurePriority") for each in [header, *items(header, "RequestAttributesSequence")]
    ]
    for priority in (OrderPriority.STAT, OrderPriority.HIGH):
        if priority.value.upper() in stated:
            return priority
    return OrderPriority.ROUTINE


def study_urgency(results: Urgency, order: OrderPriority) -> Urgency:
    """The more pressing of what the results and what the order say.

    An order alone never makes a study immediate: where half of the films are ordered STAT, the flag of a malpositioned
    tube must still stand out.
    """
    return min(results, _ORDERED[order], key=_ORDER.index)


def most_pressing(urgencies: Iterable[Urgency]) -> Urgency:
    """The most pressing of several; routine for none."""
    return min(urgencies, key=_ORDER.index, default=Urgency.ROUTINE)


def more_pressing(one: Urgency, other: Urgency) -> bool:
    """Whether `one` wants a reader sooner than `other`."""
    return _ORDER.index(one) < _ORDER.index(other)


def allowed_wait(urgency: Urgency, waits: AllowedWaits) -> float:
    """How long a study of this urgency may wait, seconds."""
    minutes: float = getattr(waits, urgency.value)
    return minutes * 60


def is_backfill(study_date_time: str, received: datetime, after_hours: float) -> bool:
    """Whether a study of this date is a prior or a migration: older than `after_hours` when it came.

    Parameters
    ----------
    study_date_time
        YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, local time; anything else is no date, and so no backfill.
    received
        Local time without a zone. A study with a date alone counts from the end of that day.
    """
    pattern = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(study_date_time))
    if pattern is None:
        return False
    try:
        taken = datetime.strptime(study_date_time, pattern)
    except ValueError:
        return False
    end = taken + timedelta(days=1) if pattern == "%Y%m%d" else taken
    return received - end > timedelta(hours=after_hours)
