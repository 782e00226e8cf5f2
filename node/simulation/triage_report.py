"""What `chexnode triage simulate` prints and writes: the scenario, the waiting times, and both in words."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rich import box
from rich.table import Table

from node.simulation.reading_room import HOUR, Order, Scenario, WeekProfile
from node.simulation.waiting_times import Figures, Group, Margin, WaitingTimes, percentile
from schemas.codes import NOT_FOR_CLINICAL_USE
from schemas.result import Urgency
from schemas.settings import AllowedWaits

ORDERS = {
    Order.FIRST_COME: "first come",
    Order.URGENCY: "urgency",
    Order.URGENCY_BOUNDED: "urgency, bounded",
}
GROUPS = {
    Group.ALL: "all studies",
    Group.FLAGGED: "flagged",
    Group.NOT_FLAGGED: "not flagged",
    Group.MALPOSITIONED_FLAGGED: "malpositioned, flagged",
    Group.MALPOSITIONED_MISSED: "malpositioned, missed",
    Group.NOT_MALPOSITIONED: "not malpositioned",
    Group.IMMEDIATE: "immediate",
    Group.URGENT: "urgent",
    Group.SOON: "soon",
    Group.ROUTINE: "routine",
}
_BY_TRUTH = [
    Group.FLAGGED,
    Group.NOT_FLAGGED,
    Group.MALPOSITIONED_FLAGGED,
    Group.MALPOSITIONED_MISSED,
    Group.NOT_MALPOSITIONED,
    Group.ALL,
]
_BY_URGENCY = [
    Group.FLAGGED,
    Group.NOT_FLAGGED,
    Group.IMMEDIATE,
    Group.URGENT,
    Group.SOON,
    Group.ROUTINE,
    Group.ALL,
]
#: Of the shown groups, the ones that are drawn.
_DRAWN_BY_TRUTH = [Group.FLAGGED, Group.MALPOSITIONED_MISSED, Group.NOT_FLAGGED]
_DRAWN_BY_URGENCY = [Group.FLAGGED, Group.NOT_FLAGGED, Group.ROUTINE]


@dataclass(frozen=True)
class History:
    """What was replayed from the ledger."""

    days: int
    #: Studies on the list without a result: replayed as not flagged.
    without_result: int
    #: Readings that could be timed; 0: drawn from the options' distribution.
    timed_readings: int
    #: The option's default stands for radiologists whom nobody stated.
    radiologists_assumed: bool
    #: All readings over the radiologists' time from first to last arrival; None when they had none.
    load: float | None
    #: Minutes until a study was opened or read, as the ledger has it.
    recorded: Mapping[Group, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    waiting: WaitingTimes
    allowed: AllowedWaits
    radiologists: WeekProfile
    reading_median: float
    reading_spread: float
    days: int
    seed: int
    #: Either of the two.
    scenario: Scenario | None = None
    history: History | None = None
    #: Where sensitivity and specificity come from.
    source: str = ""

    @property
    def figures(self) -> dict[Group, dict[Order, Figures]]:
        """Of a history, whose studies are the same in each replication, each study counts once."""
        figures = self.waiting.figures()
        if self.history is None:
            return figures
        once = self.waiting.replications
        return {
            group: {order: replace(each, studies=each.studies // once) for order, each in orders.items()}
            for group, orders in figures.items()
        }

    @property
    def shown(self) -> list[Group]:
        return _BY_URGENCY if self.scenario is None else _BY_TRUTH

    @property
    def drawn(self) -> list[Group]:
        return _DRAWN_BY_URGENCY if self.scenario is None else _DRAWN_BY_TRUTH


def scenario_table(report: Report) -> Table:
    """What was assumed, or taken from the ledger."""
    table = Table(box=None, show_header=False, title="Scenario", title_justify="left")
    if report.scenario is not None:
        _add_scenario(table, report.scenario, report.source)
    if report.history is not None:
        _add_history(table, report.history, report)
    waits = ", ".join(f"{each} {getattr(report.allowed, each):g}" for each in Urgency)
    table.add_row("allowed waits", f"{waits} min")
    table.add_row("replications", f"{report.waiting.replications} of {report.days} days, seed {report.seed}")
    return table


def waiting_table(report: Report) -> Table:
    """Minutes by group and order."""
    table = Table(box=box.SIMPLE_HEAD, title="Minutes until the reading begins", title_justify="left", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("mean", "change", "p95", "longest", "late"):
        table.add_column(heading, justify="right", no_wrap=True)
    figures = report.figures
    for group in report.shown:
        if group not in figures:
            continue
        count = f"n = {figures[group][Order.FIRST_COME].studies:,}"
        table.add_row(f"[bold]{GROUPS[group]}[/]", f"[dim]{count}[/]")
        for order, each in figures[group].items():
            change = "" if order is Order.FIRST_COME else _minutes(each.change, "+")
            table.add_row(
                f"  {ORDERS[order]}",
                _minutes(each.mean),
                change,
                _number(each.p95),
                _number(each.longest),
                _share(each.late),
            )
        if report.history is not None and (recorded := sorted(report.history.recorded.get(group, ()))):
            mean, p95 = sum(recorded) / len(recorded), percentile(recorded, 0.95)
            table.add_row("  [dim]as recorded[/]", _number(mean), "", _number(p95), _number(recorded[-1]))
        table.add_section()
    return table


def in_words(report: Report) -> list[str]:
    """What the table says, and how its figures were made; one sentence or two per item."""
    figures = report.figures
    lines = []
    if Group.FLAGGED in figures and Group.NOT_FLAGGED in figures:
        flagged, others = (_means(figures[group]) for group in (Group.FLAGGED, Group.NOT_FLAGGED))
        lines.append(
            f"In the bounded order a flagged study waits {flagged} on average, one that is not flagged {others}."
        )
        lines.append(_late_in_words(report, figures[Group.FLAGGED][Order.URGENCY_BOUNDED]))
    if missed := figures.get(Group.MALPOSITIONED_MISSED):
        longest = {order: f"{each.longest:.0f}" for order, each in missed.items()}
        lines.append(
            f"A malpositioned tube that the flag misses waits {_means(missed)} on average; the longest wait of one is "
            f"{longest[Order.URGENCY_BOUNDED]} min ({longest[Order.URGENCY]} without bound, "
            f"{longest[Order.FIRST_COME]} by first come)."
        )
    if Group.ROUTINE in figures:
        lines.append(_bound_in_words(report, figures[Group.ROUTINE]))
    if report.scenario is not None and report.scenario.load > _NEARLY_TOO_MUCH:
        lines.append("The radiologists barely keep up: the list hardly ever empties, and every figure swings widely.")
    return lines


def method(report: Report) -> list[str]:
    """How to read the table."""
    lines = [
        "change: against first come, study by study. late: waited longer than allowed at the urgency that it was "
        "given. p95 and longest: of the studies of all replications.",
    ]
    if report.waiting.replications > 1:
        lines.append(
            f"±: 95 % confidence interval of the mean, Student's t over {report.waiting.replications} replications "
            "(ratio estimator); every order got the same studies and readings."
        )
    if report.history is not None:
        lines.append("Replications differ in the readings alone. as recorded: until the study was opened or read.")
    return lines


def caption(report: Report) -> str:
    """The scenario in short, for below a plot."""
    parts = []
    if (scenario := report.scenario) is not None:
        parts.append(
            f"Simulated: {scenario.arrivals.per_week:.0f} studies a week, load {scenario.load:.2f}; malpositioned tube "
            f"{_percent(scenario.prevalence)}, sensitivity {_percent(scenario.sensitivity)}, specificity "
            f"{_percent(scenario.specificity_of_all)} of all studies"
        )
    if (history := report.history) is not None:
        parts.append(f"Replayed: {history.days} days of the ledger{_load(history)}")
    parts.append(f"median reading {report.reading_median:.1f} min")
    waits = ", ".join(f"{each} {getattr(report.allowed, each):g}" for each in Urgency)
    parts.append(f"allowed waits {waits} min")
    parts.append(f"{report.waiting.replications} replications of {report.days} days, seed {report.seed}")
    return f"{'; '.join(parts)}. {NOT_FOR_CLINICAL_USE}."


def document(report: Report) -> dict[str, Any]:
    """Everything, for scripts. Minutes and shares 0..1, unless a name says otherwise."""
    return {
        "format": 1,
        "days": report.days,
        "replications": report.waiting.replications,
        "seed": report.seed,
        "allowed_minutes": report.allowed.model_dump(),
        "radiologists_per_hour_of_week": report.radiologists.hours,
        "reading_minutes_median": report.reading_median,
        "reading_spread": report.reading_spread,
        "scenario": None if report.scenario is None else _scenario_document(report.scenario, report.source),
        "history": None if report.history is None else _history_document(report.history),
        "groups": {
            group: {order: asdict(each) for order, each in orders.items()} for group, orders in report.figures.items()
        },
    }


#: Load from which on a week is hardly long enough to catch up.
_NEARLY_TOO_MUCH = 0.97


def _bound_in_words(report: Report, routine: Mapping[Order, Figures]) -> str:
    without, bounded = routine[Order.URGENCY], routine[Order.URGENCY_BOUNDED]
    allowed = f"{report.allowed.routine:g} min"
    if without.longest <= report.allowed.routine:
        return (
            f"Even without bound no routine study waits longer than {without.longest:.0f} min, less than the allowed "
            f"{allowed}: here that bound has nothing to catch. A lower one is shown by --allowed routine=MINUTES."
        )
    return (
        f"Without bound {_share(without.late)} of the routine studies wait longer than the allowed {allowed}, the "
        f"longest {without.longest:.0f} min; with it {_share(bounded.late)}, the longest {bounded.longest:.0f} min."
    )


def _late_in_words(report: Report, flagged: Figures) -> str:
    words = f"Of the flagged studies {_share(flagged.late)} wait longer than their allowed wait"
    if 0 in report.radiologists.hours:
        words += "; at some hours nobody reads, and a flag calls nobody"
    return f"{words}."


def _share(share: float) -> str:
    return f"{100 * share:.1f} %" if not 0 < share < 0.001 else "<0.1 %"


def _means(figures: Mapping[Order, Figures]) -> str:
    bounded, first_come = figures[Order.URGENCY_BOUNDED].mean.mean, figures[Order.FIRST_COME].mean.mean
    return f"{_number(bounded)} min instead of {_number(first_come)}"


def _minutes(margin: Margin, sign: str = "") -> str:
    mean = _number(margin.mean, sign)
    if margin.half_width is None:
        return mean
    return f"{mean} ± {margin.half_width:.{_digits(margin.mean)}f}"


def _number(minutes: float, sign: str = "") -> str:
    return f"{minutes:{sign}.{_digits(minutes)}f}".replace("-", "−")


def _digits(minutes: float) -> int:
    # With tenths of hundreds of minutes the table would not fit a terminal of 80 columns.
    return 1 if abs(minutes) < 99.95 else 0


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _add_scenario(table: Table, scenario: Scenario, source: str) -> None:
    for name, first_day in (("weekday", 0), ("weekend day", 5)):
        day = slice(first_day * 24, first_day * 24 + 24)
        arrivals, radiologists = scenario.arrivals.hours[day], scenario.radiologists.hours[day]
        for begin, end in _spans(list(zip(arrivals, radiologists, strict=True))):
            table.add_row(f"{name} {begin:02}-{end:02}", _hours(arrivals[begin], radiologists[begin], scenario))
    table.add_row("whole week", f"{scenario.arrivals.per_week:.0f} studies, load {scenario.load:.2f}")
    spread = f"spread {scenario.reading_spread:g} (log-normal)"
    table.add_row("reading", f"median {scenario.reading_median:g} min, mean {scenario.reading_mean:.2f}, {spread}")
    table.add_row("malpositioned tube", f"{_percent(scenario.prevalence)} of all, tube {_percent(scenario.tubes)}")
    table.add_row("flag: sensitivity", _percent(scenario.sensitivity))
    among_all = f"{_percent(scenario.specificity_of_all)} among all"
    table.add_row("flag: specificity", f"{_percent(scenario.specificity)} among tubes that lie well, {among_all}")
    if source:
        table.add_row("", source)
    table.add_row("flag: known after", f"{60 * scenario.results_after:g} s")
    table.add_row("other findings", f"{_percent(scenario.findings)} of all are soon")
    if scenario.stat:
        table.add_row("ordered STAT", f"{_percent(scenario.stat)} of all are urgent")


def _add_history(table: Table, history: History, report: Report) -> None:
    table.add_row("arrivals", f"the ledger's worklist of the last {history.days} days")
    if history.without_result:
        table.add_row("", f"{history.without_result} without a result, replayed as not flagged")
    if history.timed_readings:
        spread = f"{history.timed_readings} timed in the ledger"
    else:
        spread = f"spread {report.reading_spread:g} (log-normal); the ledger times too few"
    table.add_row("reading", f"median {report.reading_median:.2g} min, {spread}")
    table.add_row("radiologists", f"{report.radiologists.per_week:g} hours a week{_load(history)}")
    if history.radiologists_assumed:
        table.add_row("", "assumed: state yours with --radiologists")


def _load(history: History) -> str:
    return "" if history.load is None else f", load {history.load:.2f}"


def _hours(arrivals: float, radiologists: float, scenario: Scenario) -> str:
    if not radiologists:
        return f"{arrivals:g} studies/h, nobody reads"
    load = arrivals * scenario.reading_mean / (radiologists * HOUR)
    return f"{arrivals:g} studies/h, {radiologists:g} reading, load {load:.2f}"


def _spans(hours: Sequence[object]) -> list[tuple[int, int]]:
    """Beginning and end of what stays the same over a day, from 0 to 24."""
    changes = [hour for hour in range(1, len(hours)) if hours[hour] != hours[hour - 1]]
    return list(zip([0, *changes], [*changes, len(hours)], strict=True))


def _scenario_document(scenario: Scenario, source: str) -> dict[str, Any]:
    return {
        "arrivals_per_hour_of_week": scenario.arrivals.hours,
        "load": scenario.load,
        "tubes": scenario.tubes,
        "prevalence": scenario.prevalence,
        "sensitivity": scenario.sensitivity,
        "specificity_among_tubes": scenario.specificity,
        "specificity_among_all": scenario.specificity_of_all,
        "source_of_the_flags_figures": source,
        "findings": scenario.findings,
        "stat": scenario.stat,
        "result_after_minutes": scenario.results_after,
    }


def _history_document(history: History) -> dict[str, Any]:
    return {
        "days": history.days,
        "load": history.load,
        "without_result": history.without_result,
        "timed_readings": history.timed_readings,
        "recorded_minutes": {group: sorted(minutes) for group, minutes in history.recorded.items()},
    }
