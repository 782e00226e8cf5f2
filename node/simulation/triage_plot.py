"""A plot of waiting times by group and order of the worklist. matplotlib is an extra, imported when it is asked for."""

from importlib.util import find_spec
from pathlib import Path
from textwrap import fill

import click

from node.simulation.reading_room import DAY, HOUR, Order
from node.simulation.triage_report import GROUPS, ORDERS, Report, caption
from schemas.errors import ChexnodeError

#: Colour-blind safe (Okabe and Ito), and told apart by their dashes where two lie on each other.
_LINES = {
    Order.URGENCY_BOUNDED: ("#0072B2", "solid", 3.0),
    Order.URGENCY: ("#E69F00", (0, (4, 2)), 1.6),
    Order.FIRST_COME: ("#444444", (0, (1, 1.2)), 1.8),
}
_TICKS = {1.0: "1", 5.0: "5", 15.0: "15", 60.0: "1 h", 4 * HOUR: "4 h", 12 * HOUR: "12 h", DAY: "1 d", 7 * DAY: "7 d"}
_FORMATS = (".png", ".svg", ".pdf")
#: From where on waits are told apart, minutes, and in how many steps.
_LEAST_MINUTES = 0.5
_STEPS = 400


class PlotsMissingError(ChexnodeError):
    """A plot needs matplotlib, which is not installed here."""


def check_plots(path: Path) -> None:
    """Raises PlotsMissingError, or click.BadParameter for a kind of file that is not drawn."""
    if path.suffix.lower() not in _FORMATS:
        raise click.BadParameter(f"{path.name}: name a file that ends in {', '.join(_FORMATS)}.", param_hint="--plot")
    if find_spec("matplotlib") is None:
        raise PlotsMissingError('Install it with: pip install "chexnode[plots]". The tables need none.')


def save_waiting_plot(report: Report, path: Path) -> None:
    """Per group the share that still waits after so many minutes, one line per order; both axes logarithmic.

    A line ends where the last study of its group is taken up.
    """
    from matplotlib.figure import Figure

    figures = report.figures
    groups = [group for group in report.drawn if group in figures]
    longest = max(each.longest for group in groups for each in figures[group].values())
    right = max(2 * _LEAST_MINUTES, 1.2 * longest)
    minutes = [_LEAST_MINUTES * (right / _LEAST_MINUTES) ** (step / _STEPS) for step in range(_STEPS + 1)]
    figure = Figure(figsize=(4.6 * len(groups), 5.2), layout="constrained")
    for axes, group in zip(figure.subplots(1, len(groups), sharey=True, squeeze=False)[0], groups, strict=True):
        for order, (colour, dashes, width) in _LINES.items():
            each = figures[group][order]
            shares = report.waiting.still_waiting(group, order, minutes)
            drawn = [(minute, 100 * share) for minute, share in zip(minutes, shares, strict=True) if share]
            label = f"{ORDERS[order]}: mean {each.mean.mean:.0f}, longest {each.longest:.0f} min"
            axes.plot(*zip(*drawn, strict=True), color=colour, linestyle=dashes, linewidth=width, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(_LEAST_MINUTES, right)
        axes.set_ylim(0.01, 100)
        axes.set_xticks([tick for tick in _TICKS if tick <= right])
        axes.set_xticklabels([label for tick, label in _TICKS.items() if tick <= right])
        axes.set_yticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.set_title(f"{GROUPS[group]} (n = {figures[group][Order.FIRST_COME].studies:,})", fontsize=11)
        axes.set_xlabel("waiting time (minutes where no unit stands)")
        axes.legend(fontsize=8, loc="lower left", reverse=True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("still waiting, % of the group")
    figure.supxlabel(fill(caption(report), 60 * len(groups)), fontsize=8)
    figure.savefig(path, dpi=130)
