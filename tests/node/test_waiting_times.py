"""Means, their intervals and the longest waits are what a statistician would compute by hand."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.simulation.reading_room import ArrivingStudy, Order, Replication
from node.simulation.waiting_times import Group, Margin, WaitingTimes, percentile
from schemas.result import Urgency
from schemas.settings import AllowedWaits

#: Student's t, 97.5 %, by degrees of freedom (any table).
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 19: 2.093, 99: 1.984}


def flagged(waits: Sequence[float], gain: float = 0.0) -> Replication:
    """Flagged studies that wait so long by first come, and `gain` less by urgency."""
    less = [wait - gain for wait in waits]
    return Replication(
        [ArrivingStudy(0, 1, Urgency.IMMEDIATE, flagged=True, malpositioned=True) for _ in waits],
        {Order.FIRST_COME: waits, Order.URGENCY: less, Order.URGENCY_BOUNDED: less},
    )


def collected(*replications: Replication) -> WaitingTimes:
    waiting = WaitingTimes(AllowedWaits(immediate=15))
    for replication in replications:
        waiting.add(replication)
    return waiting


def test_mean_percentile_longest_and_late_are_over_all_studies() -> None:
    figures = collected(flagged([float(n) for n in range(1, 11)]), flagged([float(n) for n in range(11, 21)])).figures()
    first_come = figures[Group.FLAGGED][Order.FIRST_COME]
    assert (first_come.studies, first_come.mean.mean, first_come.p95, first_come.longest) == (20, 10.5, 19.0, 20.0)
    assert first_come.late == 5 / 20
    assert figures[Group.MALPOSITIONED_FLAGGED] == figures[Group.FLAGGED] == figures[Group.IMMEDIATE]
    assert Group.NOT_FLAGGED not in figures


@pytest.mark.parametrize("freedom", T)
def test_the_interval_of_equal_replications_is_that_of_students_t(freedom: int) -> None:
    means = [float(n) for n in range(freedom + 1)]
    figures = collected(*(flagged([mean, mean]) for mean in means)).figures()
    middle = sum(means) / len(means)
    deviation = (sum((mean - middle) ** 2 for mean in means) / freedom) ** 0.5
    half_width = T[freedom] * deviation / len(means) ** 0.5
    mean = figures[Group.ALL][Order.FIRST_COME].mean
    assert mean.mean == middle
    assert mean.half_width == pytest.approx(half_width, rel=0.002)


def test_a_gain_that_every_study_has_is_certain() -> None:
    waiting = collected(flagged([20.0, 90.0], gain=7.0), flagged([300.0], gain=7.0), flagged([], gain=7.0))
    change = waiting.figures()[Group.FLAGGED][Order.URGENCY].change
    assert change.mean == pytest.approx(-7.0)
    assert change.half_width == pytest.approx(0.0, abs=1e-9)


def test_one_replication_has_no_interval() -> None:
    assert collected(flagged([1.0, 3.0])).figures()[Group.ALL][Order.FIRST_COME].mean == Margin(2.0, None)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Replications of unlike size, some without any study; the mean of all studies is 10."""
    generator = random.Random(1)

    def holds() -> bool:
        replications = []
        for _ in range(20):
            level = generator.gauss(10, 2)
            replications.append(flagged([generator.gauss(level, 5) for _ in range(generator.randrange(0, 30))]))
        mean = collected(*replications).figures()[Group.ALL][Order.FIRST_COME].mean
        assert mean.half_width is not None
        return abs(mean.mean - 10) <= mean.half_width

    assert 0.90 <= sum(holds() for _ in range(400)) / 400 <= 0.98


@given(st.lists(st.floats(0, 1e4), min_size=1).map(sorted), st.floats(0.01, 1))
def test_at_least_the_share_is_at_or_below_a_percentile_and_no_lower_value_would_do(
    ordered: list[float], share: float
) -> None:
    value = percentile(ordered, share)
    assert sum(each <= value for each in ordered) >= share * len(ordered) - 1e-6
    assert sum(each < value for each in ordered) < share * len(ordered) + 1e-6


def test_the_share_still_waiting_falls_from_all_to_none() -> None:
    waiting = collected(flagged([1.0, 2.0, 2.0, 30.0]))
    assert waiting.still_waiting(Group.FLAGGED, Order.FIRST_COME, [0.5, 1, 2, 29, 30]) == [1.0, 0.75, 0.25, 0.25, 0.0]
    assert waiting.still_waiting(Group.ROUTINE, Order.FIRST_COME, [1.0]) == []
