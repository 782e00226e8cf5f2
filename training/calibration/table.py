"""A calibration in words and figures: the table on the console and the section of the card. Called by calibrate.py."""

from collections.abc import Sequence

from rich.table import Table

from schemas.bundle import Metric, ScoredClass
from training.calibration.fitting import CalibratedClass, CalibrationPlan

_HEADINGS = (
    "class",
    "present / n",
    "patients",
    "prevalence",
    "AUROC",
    "calibration error before",
    "after",
    "operating point before",
    "after",
    "sensitivity",
    "specificity",
    "note",
)


def calibration_table(classes: Sequence[CalibratedClass], plan: CalibrationPlan) -> Table:
    """One row per class; figures with 95 % intervals."""
    table = Table(title=f"Calibration on {plan.data}")
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in (_HEADINGS[0], _HEADINGS[-1]) else "right")
    for each in classes:
        table.add_row(*_cells(each))
    return table


def calibration_section(classes: Sequence[CalibratedClass], plan: CalibrationPlan) -> list[str]:
    """Markdown lines: the table, and what its figures are."""
    read_as = (
        "These are radiographs of patients of the intended population, so scores may be read as probabilities wherever "
        "the finding is as frequent as stated (prevalence)."
        if plan.real
        else "Nobody has stated that these are radiographs of patients of the intended population, so scores are no "
        "probabilities."
    )
    return [
        "## Calibration",
        "",
        f"On {plan.data}. {read_as}",
        "",
        f"| {' | '.join(_HEADINGS)} |",
        f"|---|{'---:|' * (len(_HEADINGS) - 2)}---|",
        *(f"| {' | '.join(_cells(each))} |" for each in classes),
        "",
        f"Platt scaling; operating points with a sensitivity of at least {_sensitivities(plan)}. Figures after are of",
        "cases that took no part in them (five parts by patient); 95 % intervals from resampled patients; the expected",
        "calibration error of bins of equal size, less the noise of their shares. A class that is not named here is as",
        "it was.",
        "",
    ]


def _cells(each: CalibratedClass) -> list[str]:
    return [
        each.before.target,
        f"{each.present} / {each.n}",
        str(each.patients),
        _prevalence(each),
        _figure(each.auroc),
        _figure(each.error_before),
        _figure(each.error),
        _point(each.before),
        _point(each.after),
        _figure(each.sensitivity),
        _figure(each.specificity),
        each.reason if each.is_fitted or not each.reason else f"kept: {each.reason}",
    ]


def _figure(figure: Metric | None) -> str:
    return "" if figure is None else f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _point(scored: ScoredClass) -> str:
    return "none" if scored.operating_point is None else f"{scored.operating_point:.3f}"


def _prevalence(each: CalibratedClass) -> str:
    """That the calibration was made for."""
    calibration = each.after.calibration if each.is_fitted else None
    return "" if calibration is None else f"{calibration.prevalence:.1%}"


def _sensitivities(plan: CalibrationPlan) -> str:
    own = [f"{value:g} for {target}" for target, value in plan.sensitivities.items()]
    return ", ".join([f"{plan.sensitivity:g}", *own])
