"""The reading room agrees with queueing theory where there is a formula, and keeps what the worklist promises."""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.simulation.day_profile import day_profile
from node.simulation.reading_room import (
    DAY,
    HOUR,
    WEEK,
    ArrivingStudy,
    Order,
    Scenario,
    WeekProfile,
    arriving_studies,
    place_by,
    poisson_arrivals,
    read_all,
    read_in_every_order,
    simulate,
)
from node.triage import more_pressing
from schemas.result import Urgency
from schemas.settings import AllowedWaits

WAITS = AllowedWaits()
#: Short enough to be reached in a list of some ten studies.
SHORT = AllowedWaits(immediate=1, urgent=3, soon=8, routine=20)
EQUAL = AllowedWaits(immediate=60, urgent=60, soon=60, routine=60)


def always(radiologists: int) -> WeekProfile:
    return WeekProfile((float(radiologists),) * 168)


@st.composite
def studies(draw: st.DrawFn, results_after: float = 0.0) -> list[ArrivingStudy]:
    """A handful that come close together, some at the same moment."""
    count = draw(st.integers(1, 25))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.25, 1.0, 3.5]), min_size=count, max_size=count))
    clock, made = 0.0, []
    for gap in gaps:
        clock += gap
        made.append(
            ArrivingStudy(
                arrived=clock,
                reading_minutes=draw(st.sampled_from([0.5, 1.0, 2.25, 7.0])),
                urgency=draw(st.sampled_from(Urgency)),
                results_after=results_after,
            )
        )
    return made


orders = st.sampled_from(Order)


def begins(all_studies: Sequence[ArrivingStudy], waits: Sequence[float]) -> list[float]:
    return [study.arrived + wait for study, wait in zip(all_studies, waits, strict=True)]


def being_read(all_studies: Sequence[ArrivingStudy], begun: Sequence[float], time: float) -> int:
    """Readings in progress just after `time`."""
    return sum(begin <= time < begin + s.reading_minutes for s, begin in zip(all_studies, begun, strict=True))


# What holds for every list of studies.


@given(studies(), orders, st.integers(1, 3))
def test_nobody_stands_idle_while_a_study_waits(
    all_studies: list[ArrivingStudy], order: Order, radiologists: int
) -> None:
    begun = begins(all_studies, read_all(all_studies, always(radiologists), place_by(order, SHORT)))
    moments = sorted({study.arrived for study in all_studies} | set(begun))
    for moment in moments:
        waits = any(s.arrived <= moment < begin for s, begin in zip(all_studies, begun, strict=True))
        reading = being_read(all_studies, begun, moment)
        assert reading <= radiologists
        assert reading == radiologists or not waits


@given(studies())
def test_every_order_of_one_radiologist_shares_out_the_same_waiting(all_studies: list[ArrivingStudy]) -> None:
    """Kleinrock's conservation law, path by path: the sum of reading time x wait is the same for every order."""
    waits = read_in_every_order(all_studies, always(1), SHORT).waits
    weighted = [
        math.fsum(study.reading_minutes * wait for study, wait in zip(all_studies, waits[order], strict=True))
        for order in Order
    ]
    assert weighted == pytest.approx([weighted[0]] * len(Order))


@given(studies(), st.integers(1, 3))
def test_with_equal_allowed_waits_the_bounded_order_is_first_come(
    all_studies: list[ArrivingStudy], radiologists: int
) -> None:
    waits = read_in_every_order(all_studies, always(radiologists), EQUAL).waits
    assert waits[Order.URGENCY_BOUNDED] == waits[Order.FIRST_COME]


@given(studies())
def test_where_everything_is_routine_all_orders_are_first_come(all_studies: list[ArrivingStudy]) -> None:
    routine = [replace(study, urgency=Urgency.ROUTINE) for study in all_studies]
    waits = read_in_every_order(routine, always(2), SHORT).waits
    assert waits[Order.URGENCY] == waits[Order.URGENCY_BOUNDED] == waits[Order.FIRST_COME]


@given(studies())
def test_by_urgency_nothing_is_read_while_something_more_pressing_waits(all_studies: list[ArrivingStudy]) -> None:
    begun = begins(all_studies, read_all(all_studies, always(1), place_by(Order.URGENCY, WAITS)))
    for taken, begin in zip(all_studies, begun, strict=True):
        left = [s for s, other in zip(all_studies, begun, strict=True) if s.arrived <= begin < other]
        assert not any(more_pressing(study.urgency, taken.urgency) for study in left)


@given(studies(), st.integers(1, 3))
def test_nothing_that_comes_after_a_study_was_due_goes_before_it(
    all_studies: list[ArrivingStudy], radiologists: int
) -> None:
    begun = begins(all_studies, read_all(all_studies, always(radiologists), place_by(Order.URGENCY_BOUNDED, SHORT)))
    for study, begin in zip(all_studies, begun, strict=True):
        due = study.arrived + getattr(SHORT, study.urgency)
        later = [other for s, other in zip(all_studies, begun, strict=True) if s.arrived > due]
        assert all(begin <= other for other in later)


@given(studies(), st.integers(1, 3))
def test_no_study_waits_longer_than_its_allowed_wait_and_the_backlog_that_was_due_before_it(
    all_studies: list[ArrivingStudy], radiologists: int
) -> None:
    begun = begins(all_studies, read_all(all_studies, always(radiologists), place_by(Order.URGENCY_BOUNDED, SHORT)))
    due = [study.arrived + getattr(SHORT, study.urgency) for study in all_studies]
    for index, study in enumerate(all_studies):
        backlog = 0.0
        for other, theirs in enumerate(all_studies):
            if other == index or theirs.arrived > due[index]:
                continue
            if begun[other] <= due[index]:  # being read when this one falls due
                backlog += max(0.0, begun[other] + theirs.reading_minutes - due[index])
            elif due[other] <= due[index]:
                backlog += theirs.reading_minutes
        allowed = due[index] - study.arrived
        assert begun[index] - study.arrived <= allowed + backlog / radiologists + 1e-9


@given(studies(results_after=2.0), orders)
def test_a_late_result_leaves_the_waits_of_the_first_minutes_alone(
    all_studies: list[ArrivingStudy], order: Order
) -> None:
    """Until the first result nobody can tell the orders from first come."""
    until = all_studies[0].arrived + 2.0
    first_come = begins(all_studies, read_all(all_studies, always(1), place_by(Order.FIRST_COME, SHORT)))
    begun = begins(all_studies, read_all(all_studies, always(1), place_by(order, SHORT)))
    assert [min(begin, until) for begin in begun] == [min(begin, until) for begin in first_come]


# Small rooms that can be worked out by hand.


def test_a_flag_moves_a_study_up_from_when_its_result_is_there() -> None:
    def waits_of_flagged(results_after: float) -> float:
        queue = [ArrivingStudy(0, 10, Urgency.ROUTINE) for _ in range(3)]
        flagged = ArrivingStudy(1, 10, Urgency.IMMEDIATE, results_after=results_after, flagged=True)
        return read_all([*queue, flagged], always(1), place_by(Order.URGENCY_BOUNDED, WAITS))[-1]

    assert waits_of_flagged(0) == 9  # after the one that is being read
    assert waits_of_flagged(9) == 9  # known just in time
    assert waits_of_flagged(9.5) == 19  # half a minute after the next one was begun
    assert waits_of_flagged(1000) == 29


def test_an_ordered_urgency_counts_before_any_result() -> None:
    queue = [ArrivingStudy(0, 10, Urgency.ROUTINE, results_after=5) for _ in range(3)]
    stat = ArrivingStudy(1, 10, Urgency.URGENT, ordered=Urgency.URGENT, results_after=1000)
    assert read_all([*queue, stat], always(1), place_by(Order.URGENCY, WAITS))[-1] == 9


def test_the_bound_lets_a_routine_study_go_before_a_flag_once_it_has_waited_long_enough() -> None:
    """Routine at 0 is due at 1440; a flag that comes at 1430 is due at 1445 and goes behind it."""
    studies = [
        ArrivingStudy(0, 1500, Urgency.IMMEDIATE),
        ArrivingStudy(0, 10, Urgency.ROUTINE),
        ArrivingStudy(1430, 10, Urgency.IMMEDIATE),
    ]
    waits = read_in_every_order(studies, always(1), WAITS).waits
    assert list(waits[Order.URGENCY]) == [0, 1510, 70]
    assert list(waits[Order.URGENCY_BOUNDED]) == [0, 1500, 80]


def test_what_comes_at_night_is_read_in_the_morning_and_a_reading_is_finished_after_the_shift() -> None:
    staff = day_profile("8-18=1,18-8=0")
    room = WeekProfile.of_days(staff, staff)
    studies = [
        ArrivingStudy(3 * HOUR, 30, Urgency.ROUTINE),
        ArrivingStudy(4 * HOUR, 30, Urgency.ROUTINE),
        ArrivingStudy(17.9 * HOUR, 30, Urgency.ROUTINE),
        ArrivingStudy(18 * HOUR, 30, Urgency.IMMEDIATE),
        ArrivingStudy(DAY + 8.2 * HOUR, 30, Urgency.ROUTINE),
    ]
    begun = begins(studies, read_all(studies, room, place_by(Order.URGENCY, WAITS)))
    assert begun == pytest.approx([8 * HOUR, 8.5 * HOUR, 17.9 * HOUR, DAY + 8 * HOUR, DAY + 8.5 * HOUR])


def test_a_second_radiologist_helps_from_when_the_shift_begins() -> None:
    room = WeekProfile.of_days(day_profile("0-1=1,1-24=2"), day_profile("1"))
    studies = [ArrivingStudy(50, 20, Urgency.ROUTINE) for _ in range(4)]
    begun = begins(studies, read_all(studies, room, place_by(Order.FIRST_COME, WAITS)))
    assert begun == [50, 60, 70, 80]


# Queueing theory.


def exponential_studies(
    count: int, per_minute: float, mean: float, share_urgent: float, seed: int
) -> list[ArrivingStudy]:
    generator = random.Random(seed)
    clock, made = 0.0, []
    for _ in range(count):
        clock += generator.expovariate(per_minute)
        urgent = generator.random() < share_urgent
        urgency = Urgency.IMMEDIATE if urgent else Urgency.ROUTINE
        made.append(ArrivingStudy(clock, generator.expovariate(1 / mean), urgency, flagged=urgent))
    return made


def erlang_c(servers: int, offered: float) -> float:
    """Probability that all servers are busy."""
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (sum(terms) + last)


def mean_waits(radiologists: int, load: float, share_urgent: float, order: Order) -> tuple[float, float]:
    """Of urgent and of other studies; readings of 2 minutes on average, exponential, in four runs."""
    urgent: list[float] = []
    others: list[float] = []
    for seed in range(4):
        studies = exponential_studies(100_000, load * radiologists / 2, 2, share_urgent, seed)
        for study, wait in zip(studies, read_all(studies, always(radiologists), place_by(order, WAITS)), strict=True):
            (urgent if study.flagged else others).append(wait)
    return statistics.fmean(urgent or [math.nan]), statistics.fmean(others)


@pytest.mark.parametrize(("radiologists", "load"), [(1, 0.7), (3, 0.8)])
def test_first_come_waits_as_erlang_says(radiologists: int, load: float) -> None:
    _, wait = mean_waits(radiologists, load, 0.0, Order.FIRST_COME)
    # With one radiologist rho / (mu - lambda) of M/M/1.
    assert wait == pytest.approx(
        erlang_c(radiologists, load * radiologists) * 2 / (radiologists * (1 - load)), rel=0.05
    )


@pytest.mark.parametrize("radiologists", [1, 2])
def test_two_urgencies_wait_as_cobham_says(radiologists: int) -> None:
    load, share = 0.8, 0.3
    urgent, routine = mean_waits(radiologists, load, share, Order.URGENCY)
    residual = erlang_c(radiologists, load * radiologists) * 2 / radiologists
    assert urgent == pytest.approx(residual / (1 - load * share), rel=0.05)
    assert routine == pytest.approx(residual / ((1 - load * share) * (1 - load)), rel=0.05)


def test_a_log_normal_reading_time_waits_as_pollaczek_and_khinchin_say() -> None:
    flat = replace(DEPARTMENT, arrivals=always(15), radiologists=always(1), reading_spread=1.8)
    studies = arriving_studies(flat, 60 * WEEK, "1")
    waits = read_all(studies, flat.radiologists, place_by(Order.FIRST_COME, WAITS))
    second_moment = flat.reading_mean**2 * math.exp(math.log(1.8) ** 2)
    expected = 15 / HOUR * second_moment / (2 * (1 - flat.load))
    assert statistics.fmean(waits) == pytest.approx(expected, rel=0.05)


# A department.

DEPARTMENT = Scenario(
    arrivals=WeekProfile.of_days(day_profile("8-18=45,18-22=18,22-8=6"), day_profile("15")),
    radiologists=WeekProfile.of_days(day_profile("8-18=2,18-8=1"), day_profile("1")),
    reading_median=2.0,
    reading_spread=1.8,
    tubes=0.3,
    prevalence=0.1,
    sensitivity=0.8,
    specificity=0.9,
    findings=0.4,
    stat=0.1,
    results_after=0.1,
)


def test_arrivals_follow_the_profile_of_the_day() -> None:
    times = list(poisson_arrivals(DEPARTMENT.arrivals, 50 * WEEK, random.Random(1)))
    assert times == sorted(times)
    by_day = sum(time % WEEK < 5 * DAY and 8 * HOUR <= time % DAY < 18 * HOUR for time in times)
    expected = 50 * 5 * 10 * 45
    assert abs(by_day - expected) < 4 * math.sqrt(expected)
    assert abs(len(times) - 50 * DEPARTMENT.arrivals.per_week) < 4 * math.sqrt(50 * DEPARTMENT.arrivals.per_week)


def test_the_flag_has_the_stated_prevalence_sensitivity_and_specificity() -> None:
    studies = arriving_studies(DEPARTMENT, 20 * WEEK, "2")
    ill = [study for study in studies if study.malpositioned]
    well = [study for study in studies if not study.malpositioned]
    assert len(ill) / len(studies) == pytest.approx(0.1, abs=0.005)
    assert sum(study.flagged for study in ill) / len(ill) == pytest.approx(0.8, abs=0.02)
    cleared = sum(not study.flagged for study in well) / len(well)
    # 0.2 of 0.9 have a tube that lies well, a tenth of those is flagged.
    assert DEPARTMENT.specificity_of_all == pytest.approx(1 - 0.2 / 0.9 * 0.1)
    assert cleared == pytest.approx(DEPARTMENT.specificity_of_all, abs=0.005)
    assert statistics.median(study.reading_minutes for study in studies) == pytest.approx(2.0, rel=0.02)
    assert statistics.fmean(study.reading_minutes for study in studies) == pytest.approx(
        DEPARTMENT.reading_mean, rel=0.02
    )


def test_a_better_flag_meets_the_very_same_patients() -> None:
    better = arriving_studies(replace(DEPARTMENT, sensitivity=0.95), 2 * WEEK, "3")
    for one, other in zip(arriving_studies(DEPARTMENT, 2 * WEEK, "3"), better, strict=True):
        assert (one.arrived, one.reading_minutes, one.malpositioned) == (
            other.arrived,
            other.reading_minutes,
            other.malpositioned,
        )
        assert other.flagged or not one.flagged


def test_the_same_seed_gives_the_same_waits() -> None:
    def waits(seed: str) -> Sequence[float]:
        return simulate(DEPARTMENT, 7, WAITS, seed).waits[Order.URGENCY_BOUNDED]

    assert waits("1/0") == waits("1/0")
    assert waits("1/0") != waits("1/1")


def test_only_the_days_in_the_middle_are_counted() -> None:
    arrived = [study.arrived for study in simulate(DEPARTMENT, 3, WAITS, "1").studies]
    assert min(arrived) >= WEEK
    assert max(arrived) < WEEK + 3 * DAY


def test_the_bound_keeps_the_longest_wait_far_below_that_without_it() -> None:
    """Most studies are pressing and the room is nearly full: without a bound the others sink."""
    busy = replace(
        DEPARTMENT,
        arrivals=always(23),
        radiologists=always(1),
        findings=0.7,
        tubes=0.1,
        prevalence=0.05,
        specificity=0.99,
        stat=0.0,
    )
    assert 0.85 < busy.load < 0.95
    allowed = AllowedWaits(immediate=15, urgent=30, soon=45, routine=60)
    replication = simulate(busy, 28, allowed, "1")
    longest = {
        order: max(w for s, w in zip(replication.studies, waits, strict=True) if not s.flagged)
        for order, waits in replication.waits.items()
    }
    assert longest[Order.URGENCY_BOUNDED] < 0.5 * longest[Order.URGENCY]
    assert longest[Order.URGENCY_BOUNDED] < 1.5 * longest[Order.FIRST_COME]
