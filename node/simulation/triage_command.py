"""`chexnode triage simulate`: what an order of the worklist gains and costs, before a department switches it on."""

import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import click
from click.core import ParameterSource
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track
from sqlalchemy.exc import SQLAlchemyError

from node.bundles.registry import active_bundles
from node.doctor.reach_ledger import LedgerUnavailableError, reach_ledger
from node.simulation.day_profile import day_profile, whole_day_profile
from node.simulation.reading_history import (
    LEAST_READINGS,
    PastStudy,
    arriving_again,
    ledger_past,
    timed_readings,
)
from node.simulation.reading_room import HOUR, ArrivingStudy, Scenario, WeekProfile, read_in_every_order, simulate
from node.simulation.triage_plot import check_plots, save_waiting_plot
from node.simulation.triage_report import (
    History,
    Report,
    document,
    in_words,
    method,
    scenario_table,
    waiting_table,
)
from node.simulation.waiting_times import Group, WaitingTimes, groups_of
from schemas.bundle import Manifest, bundle_folder, read_manifest
from schemas.codes import NOT_FOR_CLINICAL_USE
from schemas.errors import ChexnodeError
from schemas.result import Urgency
from schemas.settings import AllowedWaits, Settings, load_settings

#: A hospital with two radiologists on radiographs by day, one in the evening and at weekends, and none at night: what
#: comes at night is read in the morning. Assumed; a department states its own.
_ARRIVALS, _WEEKEND_ARRIVALS = "8-18=45,18-22=18,22-8=6", "8-18=20,18-22=12,22-8=6"
_RADIOLOGISTS, _WEEKEND_RADIOLOGISTS = "8-18=2,18-22=1,22-8=0", "8-22=1,22-8=0"

#: Metrics of a bundle (training/evaluation) that are the flag's.
_SENSITIVITY = "malpositioned tube called abnormal, sensitivity"
_SPECIFICITY = "malpositioned tube called abnormal, specificity among tubes"

#: Readings drawn in advance where the ledger times too few.
_DRAWN_READINGS = 10_000

_SHARE = click.FloatRange(0, 1)


class OverloadError(ChexnodeError):
    """These radiologists never catch up with these arrivals."""


def _allowed_wait(text: str) -> tuple[str, float]:
    """("routine", 480.0) from "routine=480"."""
    urgency, _, minutes = text.partition("=")
    try:
        return Urgency(urgency.strip()).value, float(minutes)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not {', '.join(Urgency)}=MINUTES.") from None


@dataclass(frozen=True)
class _Options:
    """As given; None where a default depends on something else."""

    arrivals: tuple[float, ...]
    weekend_arrivals: tuple[float, ...] | None
    radiologists: tuple[float, ...]
    weekend_radiologists: tuple[float, ...] | None
    reading_minutes: float
    reading_spread: float
    tubes: float
    prevalence: float
    sensitivity: float | None
    specificity: float | None
    findings: float
    stat: float
    result_seconds: float
    allowed: tuple[tuple[str, float], ...]
    days: int
    replications: int
    seed: int
    history: bool
    plot: Path | None
    json_file: Path | None


#: Nothing of this is asked where the ledger says what came.
_NOT_WITH_HISTORY = (
    "arrivals",
    "weekend_arrivals",
    "tubes",
    "prevalence",
    "sensitivity",
    "specificity",
    "findings",
    "stat",
)


@click.group("triage")
def triage_group() -> None:
    """See what the order of the worklist does to waiting times."""


@triage_group.command("simulate")
@click.option(
    "--arrivals",
    type=day_profile,
    metavar="PROFILE",
    default=_ARRIVALS,
    show_default=True,
    help="Chest radiographs per hour over a weekday: HOUR-HOUR=NUMBER,... (local time, all 24 hours), or one number.",
)
@click.option(
    "--weekend-arrivals",
    type=day_profile,
    metavar="PROFILE",
    help=f"The same for Saturday and Sunday. [default: as --arrivals where that is given, else {_WEEKEND_ARRIVALS}]",
)
@click.option(
    "--radiologists",
    type=whole_day_profile,
    metavar="PROFILE",
    default=_RADIOLOGISTS,
    show_default=True,
    help="Radiologists who read chest radiographs over a weekday, written likewise. A reading begun is finished.",
)
@click.option(
    "--weekend-radiologists",
    type=whole_day_profile,
    metavar="PROFILE",
    help="The same for Saturday and Sunday. "
    f"[default: as --radiologists where that is given, else {_WEEKEND_RADIOLOGISTS}]",
)
@click.option(
    "--reading-minutes",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="Median time of one reading with its report (log-normal).",
)
@click.option(
    "--reading-spread",
    type=click.FloatRange(1),
    default=1.8,
    show_default=True,
    help="Geometric standard deviation of the readings: two in three lie within median / spread and median * spread.",
)
@click.option(
    "--tubes",
    type=_SHARE,
    default=0.10,
    show_default=True,
    help="Share of all studies with an endotracheal tube; the others are never flagged.",
)
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.015,
    show_default=True,
    help="Share of all studies with a malpositioned tube. The default is 15 % of --tubes, as after emergency "
    "intubations (42 of 271; Schwartz et al., Crit Care Med 1994;22:1127).",
)
@click.option("--sensitivity", type=_SHARE, help="Of the flag. [default: as the bundle states, on phantoms]")
@click.option(
    "--specificity",
    type=_SHARE,
    help="Of the flag among tubes that lie well; with --tubes 1 among all studies. "
    "[default: as the bundle states, on phantoms]",
)
@click.option(
    "--findings",
    type=_SHARE,
    default=0.25,
    show_default=True,
    help='Share of studies with another finding that is "soon" (effusion, consolidation, ...).',
)
@click.option(
    "--stat",
    type=_SHARE,
    default=0.0,
    show_default=True,
    help='Share of studies ordered STAT, which are "urgent" before any result. First come heeds no order: above 0 the '
    "comparison also shows what the orders do.",
)
@click.option(
    "--result-seconds",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="From arrival to result; until then a study stands where its order puts it.",
)
@click.option(
    "--allowed",
    type=_allowed_wait,
    metavar="URGENCY=MINUTES",
    multiple=True,
    help="Another allowed wait than in the settings ([triage.allowed_minutes]): immediate, urgent, soon or "
    "routine=MINUTES. May be repeated.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 3660),
    default=28,
    show_default=True,
    help="Days that are simulated and counted in each replication; with --history: how far to look back.",
)
@click.option(
    "--replications",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="How often, each time with other draws.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same figures.")
@click.option(
    "--history",
    is_flag=True,
    help="Replay what came onto the ledger's worklist instead of drawing arrivals. Readings are drawn from the times "
    f"between marks in the ledger where it has {LEAST_READINGS} of them. By flag and urgency: the truth is not known.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help='Draw the waiting times: FILE.png, .svg or .pdf. Needs pip install "chexnode[plots]".',
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path, allow_dash=True),
    help="Write every figure, of every group, to this file; - for the standard output, without the tables.",
)
@click.pass_context
def simulate_command(context: click.Context, /, **given: Any) -> None:
    """Show how long flagged and other studies wait: first come, by urgency, and by urgency with the bound.

    The three orders get the very same studies and readings. "By urgency" always reads the more urgent first. "With
    bound" is the order of CheXNode's worklist: each study is due at its arrival plus the allowed wait of its urgency,
    and the least due is read first, so that no study stands back for ever.

    The defaults are a made-up hospital; state your own arrivals, radiologists and reading times. Sensitivity and
    specificity of the shipped bundle were measured on simulated radiographs and are no promise for patients.
    """
    options = _Options(**given)
    _check(context, options)
    settings = load_settings()
    allowed = _allowed_waits(settings, options)
    radiologists = _week(context, "radiologists", options.radiologists, options.weekend_radiologists)
    if not radiologists.per_week:
        raise click.BadParameter("Somebody has to read at some hour.", param_hint="--radiologists")
    if options.history:
        report = _replay(context, settings, options, radiologists, allowed)
    else:
        report = _simulate(_scenario(context, settings, options, radiologists), settings, options, allowed)
    _give(report, options)


def _check(context: click.Context, options: _Options) -> None:
    """Before anything takes long. Raises click.UsageError."""
    if options.history:
        useless = [name for name in _NOT_WITH_HISTORY if _is_given(context, name)]
        if useless:
            stated = ", ".join(f"--{name.replace('_', '-')}" for name in useless)
            raise click.UsageError(f"{stated}: with --history the ledger says what came.")
    if options.prevalence > options.tubes:
        raise click.BadParameter(
            f"{options.prevalence:g} of the studies cannot have a malpositioned tube where {options.tubes:g} have one.",
            param_hint="--prevalence",
        )
    for path, option in ((options.plot, "--plot"), (options.json_file, "--json")):
        if path is not None and not path.resolve().parent.is_dir():
            raise click.BadParameter(f"There is no folder {path.resolve().parent}.", param_hint=option)
    if options.plot is not None:
        check_plots(options.plot)


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT


def _allowed_waits(settings: Settings, options: _Options) -> AllowedWaits:
    try:
        return AllowedWaits(**(settings.triage.allowed_minutes.model_dump() | dict(options.allowed)))
    except ValidationError as error:
        raise click.BadParameter("; ".join(each["msg"] for each in error.errors()), param_hint="--allowed") from error


def _week(
    context: click.Context, name: str, weekday: tuple[float, ...], weekend: tuple[float, ...] | None
) -> WeekProfile:
    if weekend is None and not _is_given(context, name):
        default = _WEEKEND_ARRIVALS if name == "arrivals" else _WEEKEND_RADIOLOGISTS
        weekend = day_profile(default)
    return WeekProfile.of_days(weekday, weekend or weekday)


def _scenario(context: click.Context, settings: Settings, options: _Options, radiologists: WeekProfile) -> Scenario:
    sensitivity, specificity = options.sensitivity, options.specificity
    if sensitivity is None:
        sensitivity = _stated(settings, _SENSITIVITY, "--sensitivity")
    if specificity is None:
        specificity = _stated(settings, _SPECIFICITY, "--specificity")
    scenario = Scenario(
        arrivals=_week(context, "arrivals", options.arrivals, options.weekend_arrivals),
        radiologists=radiologists,
        reading_median=options.reading_minutes,
        reading_spread=options.reading_spread,
        tubes=options.tubes,
        prevalence=options.prevalence,
        sensitivity=sensitivity,
        specificity=specificity,
        findings=options.findings,
        stat=options.stat,
        results_after=options.result_seconds / 60,
    )
    if not scenario.arrivals.per_week:
        raise click.BadParameter("Something has to come at some hour.", param_hint="--arrivals")
    if scenario.load >= 1:
        raise OverloadError(
            f"{scenario.arrivals.per_week * scenario.reading_mean / HOUR:.0f} hours of reading come in a week, and "
            f"radiologists are there for {radiologists.per_week:.0f}: the list would grow for ever. Raise "
            "--radiologists (or --weekend-radiologists), or lower --arrivals or --reading-minutes."
        )
    return scenario


def _stated(settings: Settings, name: str, option: str) -> float:
    for metric in _flagging(settings).metrics:
        if metric.name == name:
            return metric.value
    raise click.UsageError(f"The bundle {_flagging(settings).name} states no such figure: give {option}.")


def _flagging(settings: Settings) -> Manifest:
    """The bundle whose figures are the flag's: the active one that finds tubes, else the one that is shipped."""
    try:
        with reach_ledger(settings) as ledger, ledger.read() as session:
            active = [each.manifest for each in active_bundles(session)]
    except (LedgerUnavailableError, SQLAlchemyError):
        active = []
    return next((each for each in active if each.population.devices), None) or read_manifest(bundle_folder(None))


def _simulate(scenario: Scenario, settings: Settings, options: _Options, allowed: AllowedWaits) -> Report:
    waiting = WaitingTimes(allowed)
    for number in _tracked(options.replications):
        waiting.add(simulate(scenario, options.days, allowed, f"{options.seed}/{number}"))
    if not waiting.figures():
        raise click.UsageError("Nothing came in any replication: raise --arrivals or --days.")
    return Report(
        waiting=waiting,
        allowed=allowed,
        radiologists=scenario.radiologists,
        reading_median=options.reading_minutes,
        reading_spread=options.reading_spread,
        days=options.days,
        seed=options.seed,
        scenario=scenario,
        source=_source(settings, options),
    )


def _source(settings: Settings, options: _Options) -> str:
    """Where the flag's figures come from."""
    if options.sensitivity is not None and options.specificity is not None:
        return "as given"
    manifest = _flagging(settings)
    given = "" if options.sensitivity is None and options.specificity is None else " (where not given)"
    notice = "" if manifest.cleared_for_clinical_use else ", on simulated radiographs, not on patients"
    return f"stated by {manifest.name} {manifest.version}{given}{notice}"


def _replay(
    context: click.Context, settings: Settings, options: _Options, radiologists: WeekProfile, allowed: AllowedWaits
) -> Report:
    past = ledger_past(settings, options.days)
    timed = timed_readings(past)
    if enough := len(timed) >= LEAST_READINGS:
        readings = timed
    else:
        mu, sigma = math.log(options.reading_minutes), math.log(options.reading_spread)
        generator = random.Random(f"{options.seed}/readings")
        readings = [generator.lognormvariate(mu, sigma) for _ in range(_DRAWN_READINGS)]
    waiting = WaitingTimes(allowed)
    for number in _tracked(options.replications):
        generator = random.Random(f"{options.seed}/{number}")
        studies = arriving_again(past, readings, options.result_seconds / 60, generator)
        waiting.add(read_in_every_order(studies, radiologists, allowed))
    return Report(
        waiting=waiting,
        allowed=allowed,
        radiologists=radiologists,
        reading_median=median(readings),
        reading_spread=options.reading_spread,
        days=options.days,
        seed=options.seed,
        history=History(
            days=options.days,
            without_result=sum(study.flagged is None for study in past),
            timed_readings=len(timed) if enough else 0,
            radiologists_assumed=not _is_given(context, "radiologists"),
            load=_load(studies, fmean(readings), radiologists),
            recorded=_recorded(past),
        ),
    )


def _load(studies: Sequence[ArrivingStudy], reading_mean: float, radiologists: WeekProfile) -> float | None:
    there = radiologists.minutes_between(studies[0].arrived, studies[-1].arrived)
    return len(studies) * reading_mean / there if there else None


def _recorded(past: Sequence[PastStudy]) -> dict[Group, list[float]]:
    recorded: dict[Group, list[float]] = {}
    for study in past:
        if study.waited_minutes is not None:
            for group in groups_of(ArrivingStudy(0, 0, study.urgency, flagged=bool(study.flagged))):
                recorded.setdefault(group, []).append(study.waited_minutes)
    return recorded


def _tracked(replications: int) -> Iterable[int]:
    console = Console(stderr=True)
    return track(range(replications), "Simulating", console=console, transient=True, disable=not console.is_terminal)


def _give(report: Report, options: _Options) -> None:
    """Print, write, draw."""
    if options.json_file is not None:
        with click.open_file(str(options.json_file), "w", encoding="utf-8") as stream:
            json.dump(document(report), stream, indent=1)
            stream.write("\n")
    if options.plot is not None:
        save_waiting_plot(report, options.plot)
    if options.json_file == Path("-"):
        return
    console = Console(highlight=False)
    console.print(f"[bold red]{NOT_FOR_CLINICAL_USE}.[/] A simulation: it shows what follows from its assumptions.\n")
    console.print(scenario_table(report))
    console.print()
    console.print(waiting_table(report))
    for line in in_words(report):
        console.print(line)
    console.print()
    for line in method(report):
        console.print(f"[dim]{line}[/]")
    for path in (options.plot, options.json_file):
        if path is not None:
            console.print(f"written: {path}", soft_wrap=True)
