"""A bundle's figures as a table, for `chexnode bundle show` and `chexnode train evaluate`."""

from collections.abc import Sequence

from rich.table import Table

from schemas.bundle import Metric


def metrics_table(metrics: Sequence[Metric], title: str) -> Table:
    """One row per figure: value, 95 % interval, n and the trivial baseline, as they are."""
    table = Table(title=title)
    table.add_column("figure")
    for heading in ("value", "95 % interval", "n", "baseline"):
        table.add_column(heading, justify="right")
    for metric in metrics:
        interval = f"{_figure(metric.low)} to {_figure(metric.high)}"
        baseline = "" if metric.baseline is None else _figure(metric.baseline)
        name = f"{metric.name}; {metric.data}" if metric.data else metric.name
        table.add_row(name, _figure(metric.value), interval, str(metric.n), baseline)
    return table


def _figure(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
