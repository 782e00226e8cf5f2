"""Figures of experiments: kept as JSON, printed as tables, drawn as plots. Called by benchmarks/experiments.py."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from schemas.bundle import Metric

_JSON = "experiments.json"
#: Of the runs of an experiment, whichever is made first.
_ORDER = ("a quarter", "half", "all", "phantoms", "radiographs", "both")
#: On the frozen cases; of those on patients all that `_on_patients` lets pass.
_FROZEN = (
    "AUROC abnormal tube, all",
    "AUROC abnormal tube, middle tercile of contrast",
    "abnormal tube, sensitivity at 95 % specificity, middle tercile of contrast",
    "tube tip located, share",
    "tube tip error, median mm",
    "tube tip error, 95th percentile mm",
    "tube tip error, median mm, first look alone",
    "tip to carina error, median mm",
    "tip to carina error, 95th percentile mm",
    "Dice lungs, mean",
    "Dice heart, mean",
    "AUROC pleural_effusion",
    "AUROC pneumothorax",
    "AUROC cardiomegaly",
    "other images refused, share",
)
_PANELS_A_ROW = 4


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunFigures(_Document):
    """One run: what it was made from, and every figure that its bundle states."""

    #: By experiment, what it is called there.
    names: dict[str, str]
    steps: dict[str, int]
    seeds: dict[str, int]
    phantoms: int
    #: How often an example is drawn from each source, as the recipe says; the phantoms' too.
    weights: dict[str, float]
    #: Of all its stages, also of those that it shares with others.
    minutes: float = 0.0
    bundle: str = ""
    metrics: list[Metric] = []
    #: Why there are no figures; "" otherwise.
    failed: str = ""

    def figure(self, row: "Row") -> Metric | None:
        """Its figure in this row of a table."""
        return next((each for each in self.metrics if (each.name, each.data) == (row.name, row.data)), None)


class Results(_Document):
    """experiments.json."""

    recipe: str
    #: Of the recipe's steps.
    scale: float
    runs: list[RunFigures]

    def of(self, experiment: str) -> list[RunFigures]:
        """The runs of an experiment: what has most last, seeds by their number."""

        def place(run: RunFigures) -> tuple[int, str]:
            name = run.names[experiment]
            return (_ORDER.index(name) if name in _ORDER else 0), name

        return sorted((each for each in self.runs if experiment in each.names), key=place)


class Row(_Document):
    """What the runs of an experiment are compared by."""

    name: str
    data: str

    @property
    def words(self) -> str:
        return f"{self.name}; {self.data}" if self.data else self.name


def save_results(results: Results, folder: Path) -> None:
    """Replace experiments.json; a kill leaves the one before."""
    partial = folder / f"{_JSON}.partial"
    partial.write_text(results.model_dump_json(indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / _JSON)


def print_results(results: Results, experiment: str, console: Console) -> None:
    """A table: a row for each figure, a column for each run, and the trivial baseline."""
    runs = results.of(experiment)
    table = Table(title=f"{experiment}: value (95 % interval) n", show_lines=False)
    table.add_column("figure")
    for run in runs:
        table.add_column(run.names[experiment], justify="right")
    repeated = experiment == "seeds" and len(runs) > 1
    if repeated:
        table.add_column("mean, standard deviation", justify="right")
    table.add_column("baseline", justify="right")
    for row in rows_of(runs):
        figures = [run.figure(row) for run in runs]
        cells = [_cell(each) for each in figures]
        known = [each for each in figures if each is not None]
        if repeated:
            cells.append(_spread([each.value for each in known]))
        baseline = next((each.baseline for each in reversed(known) if each.baseline is not None), None)
        table.add_row(row.words, *cells, "" if baseline is None else f"{baseline:.3f}")
    table.add_row("minutes of all its stages", *(f"{run.minutes:.0f}" for run in runs))
    console.print(table)
    for run in runs:
        if run.failed:
            console.print(f"[red]{run.names[experiment]}:[/] {run.failed}", highlight=False)


def save_plots(results: Results, experiment: str, folder: Path) -> Path | None:
    """A panel for each figure, its runs with their intervals and the trivial baseline; None when there is nothing."""
    runs = [each for each in results.of(experiment) if not each.failed]
    rows = rows_of(runs)
    if not rows:
        return None
    lines = math.ceil(len(rows) / _PANELS_A_ROW)
    figure = Figure(figsize=(3.6 * _PANELS_A_ROW, 2.9 * lines), layout="constrained")
    grid = figure.subplots(lines, _PANELS_A_ROW, squeeze=False).ravel()
    for axes in grid[len(rows) :]:
        axes.axis("off")
    for axes, row in zip(grid, rows, strict=False):
        _panel(axes, row, runs, experiment)
    path = folder / f"{experiment}.png"
    figure.savefig(path, dpi=90)
    return path


def rows_of(runs: Sequence[RunFigures]) -> list[Row]:
    """The figures that at least one of the runs has, in one order."""
    frozen = [Row(name=name, data="") for name in _FROZEN]
    stated = [Row(name=each.name, data=each.data) for run in runs for each in run.metrics]
    patients = [row for row in dict.fromkeys(stated, None) if row.data and _on_patients(row.name)]
    there = {(row.name, row.data) for row in stated}
    return [row for row in [*frozen, *patients] if (row.name, row.data) in there]


def _on_patients(name: str) -> bool:
    """Lungs, refusals, what is asked of the features; of the classes the view, and what phantoms do not have."""
    return (
        name.startswith(("Dice", "frontal"))
        or "probe" in name
        or "less" in name
        or name in ("AUROC pneumonia", "AUROC view.ap")
    )


def _cell(figure: Metric | None) -> str:
    if figure is None:
        return ""
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f}) {figure.n}"


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}, {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""


def _panel(axes: Axes, row: Row, runs: Sequence[RunFigures], experiment: str) -> None:
    drawn = [(run.names[experiment], figure) for run in runs if (figure := run.figure(row)) is not None]
    for place, (_, figure) in enumerate(drawn):
        below, above = max(0.0, figure.value - figure.low), max(0.0, figure.high - figure.value)
        axes.errorbar(place, figure.value, [[below], [above]], fmt="o", color="steelblue", capsize=4)
    baselines = [figure.baseline for _, figure in drawn if figure.baseline is not None]
    if baselines:
        axes.axhline(float(np.mean(baselines)), color="darkorange", linestyle="--", linewidth=1)
    axes.set_xticks(range(len(drawn)), [name for name, _ in drawn], fontsize=7)
    axes.set_title(f"{row.name}\n{row.data}", fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(x=0.25)
