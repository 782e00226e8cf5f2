"""Waiting times of groups of studies under each order of the worklist, with their uncertainty.

Used by `chexnode triage simulate`: it adds one replication after the other and asks for the figures at the end.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from node.simulation.reading_room import ArrivingStudy, Order, Replication, place_by
from schemas.result import Urgency
from schemas.settings import AllowedWaits

#: Student's t, 97.5 %, where the expansion in `_t_quantile` is not good enough.
_T_OF_FEW = {1: 12.706, 2: 4.303}


class Group(StrEnum):
    """By what the worklist shows, by the truth where it is known, and by urgency."""

    ALL = "all"
    FLAGGED = "flagged"
    NOT_FLAGGED = "not_flagged"
    MALPOSITIONED_FLAGGED = "malpositioned_flagged"
    MALPOSITIONED_MISSED = "malpositioned_missed"
    NOT_MALPOSITIONED = "not_malpositioned"
    IMMEDIATE = "immediate"
    URGENT = "urgent"
    SOON = "soon"
    ROUTINE = "routine"


@dataclass(frozen=True)
class Margin:
    """A mean, minutes, and half the width of its 95 % confidence interval (None: too few replications)."""

    mean: float
    half_width: float | None


@dataclass(frozen=True)
class Figures:
    """Waiting times of one group under one order, minutes, over all replications."""

    studies: int
    mean: Margin
    #: Of the differences to first-come, study by study.
    change: Margin
    p95: float
    longest: float
    #: Share that waited longer than the allowed wait of their urgency, 0..1.
    late: float


class WaitingTimes:
    """Collects replications.

    A mean is over all studies of all replications. Its interval takes each replication as one draw: a ratio estimator
    (Cochran, Sampling Techniques, 3rd ed., chapter 6: mean = sum of waits / sum of studies) with Student's t, since
    the waits within a replication depend on each other. The 95th percentile is the nearest rank over all studies; the
    longest wait is that of all replications, and so grows with what is simulated.
    """

    def __init__(self, allowed: AllowedWaits) -> None:
        self._allowed = allowed
        self._waits: dict[tuple[Group, Order], array[float]] = {}
        self._late: dict[tuple[Group, Order], int] = {}
        #: Per replication: studies, sum of waits, sum of differences to first-come.
        self._sums: dict[tuple[Group, Order], list[tuple[int, float, float]]] = {}
        self._replications = 0

    def add(self, replication: Replication) -> None:
        """Count the waits of one replication, which has every order."""
        members: dict[Group, list[int]] = {}
        for index, study in enumerate(replication.studies):
            for group in groups_of(study):
                members.setdefault(group, []).append(index)
        due = place_by(Order.URGENCY_BOUNDED, self._allowed)
        allowed = [due(0.0, study.urgency)[0] for study in replication.studies]
        first_come = replication.waits[Order.FIRST_COME]
        for order, waits in replication.waits.items():
            for group, indices in members.items():
                mine = [waits[index] for index in indices]
                key = group, order
                self._waits.setdefault(key, array("d")).extend(mine)
                self._late[key] = self._late.get(key, 0) + sum(waits[index] > allowed[index] for index in indices)
                change = math.fsum(mine) - math.fsum(first_come[index] for index in indices)
                self._sums.setdefault(key, []).append((len(mine), math.fsum(mine), change))
        self._replications += 1

    @property
    def replications(self) -> int:
        return self._replications

    def figures(self) -> dict[Group, dict[Order, Figures]]:
        """Of every group that had a study."""
        return {
            group: {order: self._figures(group, order) for order in Order}
            for group in Group
            if (group, Order.FIRST_COME) in self._waits
        }

    def still_waiting(self, group: Group, order: Order, minutes: Sequence[float]) -> list[float]:
        """Share of the group that waits longer than each of `minutes`, 0..1; none without a study."""
        waits = sorted(self._waits.get((group, order), ()))
        return [1 - bisect_right(waits, each) / len(waits) for each in minutes] if waits else []

    def _figures(self, group: Group, order: Order) -> Figures:
        waits, sums = sorted(self._waits[group, order]), self._sums[group, order]
        # A replication without such a study is a draw as well.
        empty = [(0, 0.0, 0.0)] * (self._replications - len(sums))
        return Figures(
            studies=len(waits),
            mean=_margin([(count, total) for count, total, _ in [*sums, *empty]]),
            change=_margin([(count, change) for count, _, change in [*sums, *empty]]),
            p95=percentile(waits, 0.95),
            longest=waits[-1],
            late=self._late[group, order] / len(waits),
        )


def groups_of(study: ArrivingStudy) -> Iterator[Group]:
    """The groups that a study is in."""
    yield Group.ALL
    yield Group.FLAGGED if study.flagged else Group.NOT_FLAGGED
    if study.malpositioned is not None:
        if not study.malpositioned:
            yield Group.NOT_MALPOSITIONED
        else:
            yield Group.MALPOSITIONED_FLAGGED if study.flagged else Group.MALPOSITIONED_MISSED
    yield _OF_URGENCY[study.urgency]


_OF_URGENCY = {each: Group(each.value) for each in Urgency}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The least of the ordered values that `share` (0..1) of them do not exceed (nearest rank)."""
    # Not upset by 0.95 * 20 = 19.000000000000004.
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def _margin(draws: Sequence[tuple[int, float]]) -> Margin:
    """Sum of values over sum of counts, from (count, sum of values) per replication."""
    counts = sum(count for count, _ in draws)
    mean = math.fsum(total for _, total in draws) / counts
    if len(draws) < 2 or sum(count > 0 for count, _ in draws) < 2:
        return Margin(mean, None)
    freedom = len(draws) - 1
    squares = math.fsum((total - mean * count) ** 2 for count, total in draws)
    error = math.sqrt(len(draws) / freedom * squares) / counts
    return Margin(mean, _t_quantile(freedom) * error)


def _t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t (Abramowitz and Stegun 26.7.5; off by less than 0.001 from 4 degrees on)."""
    if freedom in _T_OF_FEW:
        return _T_OF_FEW[freedom]
    x = NormalDist().inv_cdf(0.975)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + math.fsum(term / float(freedom) ** power for power, term in enumerate(terms, 1))
