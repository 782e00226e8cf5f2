"""Triage: how soon a study wants a reader. Pure functions of its current results."""

from collections.abc import Iterable

from schemas.codes import Category, TubePosition
from schemas.result import ImageResult, Urgency

_URGENCY = {
    Category.IMMEDIATE: Urgency.IMMEDIATE,
    Category.URGENT: Urgency.URGENT,
    Category.SOON: Urgency.SOON,
}
_ORDER = [Urgency.IMMEDIATE, Urgency.URGENT, Urgency.SOON, Urgency.ROUTINE]


def urgency(images: Iterable[ImageResult]) -> Urgency:
    """The most pressing category of any present finding and any tube position; routine when there is none."""
    categories: list[Category] = []
    for image in images:
        categories += [result.finding.category for result in image.findings if result.present]
        categories += [
            category for tube in image.tubes if tube.position and (category := tube.position.category) is not None
        ]
    return min((_URGENCY[category] for category in categories), key=_ORDER.index, default=Urgency.ROUTINE)


def malpositioned_tube(images: Iterable[ImageResult]) -> bool:
    """The flag of the worklist: any tube lies abnormally."""
    return any(tube.position is TubePosition.ABNORMAL for image in images for tube in image.tubes)
