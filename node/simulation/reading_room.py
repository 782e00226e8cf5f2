"""A reading room in numbers: studies arrive, wait in an order, and are read by the radiologists on duty.

Used by `chexnode triage simulate` (node/simulation/triage_command.py) to show what an order of the worklist gains and
costs. A queue without pre-emption, first-come or by urgency (Cobham, J Oper Res Soc Am 1954;2:70-76), as others use it
for triage devices (Thompson et al., Queueing Syst 2024;108:579-610), and with the product's bound on waiting, against
the sinking of what the flag misses (Baltruschat et al., Eur Radiol 2021;31:3837-3845). Pure; times are minutes from a
Monday 00:00 on.
"""

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from heapq import heappop, heappush

from node.triage import allowed_wait, more_pressing
from schemas.result import Urgency
from schemas.settings import AllowedWaits

HOUR = 60.0
DAY = 24 * HOUR
WEEK = 7 * DAY

#: The place of a study in the list, from when it came and its urgency at present; the least is read first.
Place = Callable[[float, Urgency], tuple[float, float]]


class Order(StrEnum):
    """How the worklist is sorted."""

    FIRST_COME = "first_come"
    #: The more urgent always first; within an urgency, first come.
    URGENCY = "urgency"
    #: The product's: least due_at = waiting since + allowed wait of the urgency.
    URGENCY_BOUNDED = "urgency_bounded"


@dataclass(frozen=True, slots=True)
class ArrivingStudy:
    """A study as the reading room meets it."""

    arrived: float
    reading_minutes: float
    #: Of results and order together, from `results_after` minutes after it came; of the order alone before.
    urgency: Urgency
    ordered: Urgency = Urgency.ROUTINE
    results_after: float = 0.0
    #: A tube was called malpositioned.
    flagged: bool = False
    #: A tube is malpositioned; None where nobody knows.
    malpositioned: bool | None = None


def place_by(order: Order, waits: AllowedWaits) -> Place:
    """The rule of this order; `waits` matters to the bounded one alone."""
    if order is Order.FIRST_COME:
        return lambda arrived, urgency: (arrived, 0.0)
    if order is Order.URGENCY:
        rank = {each: float(sum(more_pressing(other, each) for other in Urgency)) for each in Urgency}
        return lambda arrived, urgency: (rank[urgency], arrived)
    allowed = {each: allowed_wait(each, waits) / 60 for each in Urgency}
    return lambda arrived, urgency: (arrived + allowed[urgency], arrived)


@dataclass(frozen=True)
class WeekProfile:
    """What differs over the hours of a week and is constant within each: arrivals per hour, radiologists on duty.

    `hours` has 168 values, Monday 00:00-01:00 first.
    """

    hours: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.hours) != 7 * 24 or min(self.hours) < 0:
            raise ValueError("a week has 168 hours, none with a negative value")

    @classmethod
    def of_days(cls, weekday: Sequence[float], weekend: Sequence[float]) -> "WeekProfile":
        """From the 24 hours of a weekday and of a day of the weekend."""
        return cls((*weekday, *weekday, *weekday, *weekday, *weekday, *weekend, *weekend))

    @property
    def per_week(self) -> float:
        """Sum over the hours of a week."""
        return sum(self.hours)

    def at(self, time: float) -> float:
        return self.hours[int(time // HOUR) % len(self.hours)]

    def next_change(self, time: float) -> float:
        """The first full hour after `time` at which the value changes; infinity for one that never does."""
        hour = int(time // HOUR)
        present = self.hours[hour % len(self.hours)]
        for ahead in range(hour + 1, hour + 1 + len(self.hours)):
            if self.hours[ahead % len(self.hours)] != present:
                return ahead * HOUR
        return math.inf

    def minutes_between(self, begin: float, end: float) -> float:
        """Value times minutes from `begin` to `end`: for radiologists, the minutes that they are there."""
        total, clock = 0.0, begin
        while clock < end:
            until = min(self.next_change(clock), end)
            total += self.at(clock) * (until - clock)
            clock = until
        return total


def read_all(studies: Sequence[ArrivingStudy], radiologists: WeekProfile, place: Place) -> list[float]:
    """Minutes that each study waits until its reading begins, in the order of `studies`.

    Whoever is free takes the study with the least place; nobody stands idle while one waits, a reading that was begun
    is finished, also after the end of a shift. `radiologists` are whole numbers, above 0 at some hour of the week.

    Parameters
    ----------
    studies
        By time of arrival.
    """
    if not radiologists.per_week:
        raise ValueError("nobody ever reads")
    begins = [math.nan] * len(studies)
    waiting: list[tuple[tuple[float, float], int]] = []
    results: list[tuple[float, int]] = []
    ends: list[float] = []
    clock = studies[0].arrived if studies else 0.0
    on_duty, shift_ends = radiologists.at(clock), radiologists.next_change(clock)
    arriving, unread = 0, len(studies)
    while unread:
        while arriving < len(studies) and studies[arriving].arrived <= clock:
            study = studies[arriving]
            known = study.results_after <= 0
            heappush(waiting, (place(study.arrived, study.urgency if known else study.ordered), arriving))
            if not known and study.urgency != study.ordered:
                heappush(results, (study.arrived + study.results_after, arriving))
            arriving += 1
        while results and results[0][0] <= clock:
            _, index = heappop(results)
            if math.isnan(begins[index]):
                # Its entry of before stays and is skipped: results only move a study up.
                heappush(waiting, (place(studies[index].arrived, studies[index].urgency), index))
        while ends and ends[0] <= clock:
            heappop(ends)
        if shift_ends <= clock:
            on_duty, shift_ends = radiologists.at(clock), radiologists.next_change(clock)
        while waiting and len(ends) < on_duty:
            _, index = heappop(waiting)
            if math.isnan(begins[index]):
                begins[index] = clock
                heappush(ends, clock + studies[index].reading_minutes)
                unread -= 1
        clock = min(
            studies[arriving].arrived if arriving < len(studies) else math.inf,
            results[0][0] if results else math.inf,
            ends[0] if ends else math.inf,
            shift_ends,
        )
    return [begin - study.arrived for begin, study in zip(begins, studies, strict=True)]


@dataclass(frozen=True)
class Replication:
    """The same studies, with the same readings, under every order."""

    studies: Sequence[ArrivingStudy]
    #: Minutes until the reading begins, in the order of `studies`.
    waits: Mapping[Order, Sequence[float]]


def read_in_every_order(
    studies: Sequence[ArrivingStudy], radiologists: WeekProfile, allowed: AllowedWaits
) -> Replication:
    """The waits of these studies, which come by time of arrival, under each order."""
    return Replication(studies, {order: read_all(studies, radiologists, place_by(order, allowed)) for order in Order})


@dataclass(frozen=True)
class Scenario:
    """A department, its patients and the flag. Shares are 0..1.

    The flag is given to a malpositioned tube with probability `sensitivity` and to one that lies well with 1 -
    `specificity`; a study without a tube never gets it (with `tubes` = 1, `specificity` is that over all studies).
    """

    #: Arrivals per hour.
    arrivals: WeekProfile
    radiologists: WeekProfile
    #: Readings are log-normal: median, minutes, and geometric standard deviation, at least 1 (always the median).
    reading_median: float
    reading_spread: float
    #: Of all studies: with an endotracheal tube, and with one that is malpositioned.
    tubes: float
    prevalence: float
    sensitivity: float
    #: Among studies with a tube that lies well.
    specificity: float
    #: Of all studies: with another finding that is "soon", and ordered STAT ("urgent", before any result).
    findings: float
    stat: float
    #: From arrival to result, minutes.
    results_after: float

    @property
    def reading_mean(self) -> float:
        """Minutes; exp(mu + sigma^2 / 2) of the log-normal distribution."""
        return self.reading_median * math.exp(math.log(self.reading_spread) ** 2 / 2)

    @property
    def load(self) -> float:
        """Reading to be done in a week over time of radiologists on duty; from 1 on the list grows for ever."""
        work = self.arrivals.per_week * self.reading_mean
        return work / (self.radiologists.per_week * HOUR) if self.radiologists.per_week else math.inf

    @property
    def specificity_of_all(self) -> float:
        """Among all studies without a malpositioned tube."""
        well_placed = self.tubes - self.prevalence
        return 1 - well_placed * (1 - self.specificity) / (1 - self.prevalence) if self.prevalence < 1 else math.nan


def simulate(scenario: Scenario, days: int, allowed: AllowedWaits, seed: str) -> Replication:
    """Those who come within `days`, after a week in which the list fills and before one that is not counted either.

    The week after keeps the last ones from being read without company.
    """
    ends = WEEK + days * DAY
    whole = read_in_every_order(arriving_studies(scenario, ends + WEEK, seed), scenario.radiologists, allowed)
    counted = slice(*(bisect_left(whole.studies, time, key=lambda study: study.arrived) for time in (WEEK, ends)))
    return Replication(whole.studies[counted], {order: waits[counted] for order, waits in whole.waits.items()})


def arriving_studies(scenario: Scenario, minutes: float, seed: str) -> list[ArrivingStudy]:
    """What arrives in `minutes`, by time. The same seed gives the same studies.

    Arrivals, readings and what the studies show are drawn apart, so that two scenarios that differ in one of them share
    the others (common random numbers).
    """
    readings, contents = random.Random(f"{seed}/readings"), random.Random(f"{seed}/contents")
    mu, sigma = math.log(scenario.reading_median), math.log(scenario.reading_spread)
    arrivals = poisson_arrivals(scenario.arrivals, minutes, random.Random(f"{seed}/arrivals"))
    return [_study(scenario, arrived, readings.lognormvariate(mu, sigma), contents) for arrived in arrivals]


def poisson_arrivals(rate: WeekProfile, minutes: float, generator: random.Random) -> Iterator[float]:
    """Times of a Poisson process of `rate` per hour from 0 to `minutes`."""
    clock = 0.0
    while clock < minutes:
        until = min(rate.next_change(clock), minutes)
        if per_hour := rate.at(clock):
            # No memory: at a change of the rate the draw may begin anew.
            while (clock := clock + generator.expovariate(per_hour) * HOUR) < until:
                yield clock
        clock = until


def _study(scenario: Scenario, arrived: float, reading_minutes: float, generator: random.Random) -> ArrivingStudy:
    # Each is drawn whether it is needed or not, so that the next study draws the same numbers in any scenario.
    tube, called, finding, order = (generator.random() for _ in range(4))
    malpositioned = tube < scenario.prevalence
    flagged = called < (
        scenario.sensitivity if malpositioned else 1 - scenario.specificity if tube < scenario.tubes else 0.0
    )
    ordered = Urgency.URGENT if order < scenario.stat else Urgency.ROUTINE
    if flagged:
        urgency = Urgency.IMMEDIATE
    elif ordered is Urgency.ROUTINE and finding < scenario.findings:
        urgency = Urgency.SOON
    else:
        urgency = ordered
    return ArrivingStudy(arrived, reading_minutes, urgency, ordered, scenario.results_after, flagged, malpositioned)
