"""Reliability diagrams: which share was present among cases of a score. Called by calibrate and by a run's report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.calibration.error import Bins, bins_of
from training.calibration.fitting import CalibratedClass

_COLUMNS = 4
_BEFORE, _AFTER = "tab:grey", "tab:blue"
_PRESENT, _ABSENT = "tab:orange", "lightgrey"


def save_reliability(classes: Sequence[CalibratedClass], path: Path, title: str) -> None:
    """One diagram per fitted class, before and after (cross-fitted), as a picture of the kind that `path` ends in.

    Points are bins of equal size with the 95 % interval of their share; below them how many cases had which score
    afterwards; above them the expected calibration errors. At least one of `classes` has to be fitted.
    """
    fitted = [each for each in classes if each.is_fitted]
    columns = min(_COLUMNS, len(fitted))
    rows = -(-len(fitted) // columns)
    figure = Figure(figsize=(3.6 * columns, 4.6 * rows + 0.5), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[4, 1] * rows)
    for axes in grid.ravel():
        axes.axis("off")
    for index, each in enumerate(fitted):
        row, column = divmod(index, columns)
        _draw_shares(grid[2 * row, column], each)
        _draw_counts(grid[2 * row + 1, column], each)
    figure.suptitle(title)
    figure.savefig(path, dpi=100)


def _draw_shares(axes: Axes, calibrated: CalibratedClass) -> None:
    axes.axis("on")
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    bins = _draw_bins(axes, calibrated, calibrated.scores_before, _BEFORE, "before")
    said = "not calibrated"
    if calibrated.error is not None:
        _draw_bins(axes, calibrated, calibrated.scores, _AFTER, "after")
        said = f"{calibrated.error.value:.3f} after"
    assert calibrated.error_before is not None
    title = f"{calibrated.before.target}\ncalibration error {calibrated.error_before.value:.3f} before, {said}"
    cases = f"{calibrated.n} cases, {calibrated.present} present, {bins.counts.min()} or more in a bin"
    axes.set_title(f"{title}\n{cases}", fontsize=8)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share present")
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, loc="upper left")


def _draw_bins(axes: Axes, calibrated: CalibratedClass, scores: NDArray[np.float64], colour: str, label: str) -> Bins:
    bins = bins_of(scores, calibrated.truth, calibrated.weights)
    interval = 1.96 * bins.errors
    axes.errorbar(bins.scores, bins.shares, interval, label=label, color=colour, marker="o", markersize=3, linewidth=1)
    return bins


def _draw_counts(axes: Axes, calibrated: CalibratedClass) -> None:
    axes.axis("on")
    kinds = [calibrated.scores[calibrated.truth <= 0.5], calibrated.scores[calibrated.truth > 0.5]]
    axes.hist(kinds, bins=20, range=(0, 1), stacked=True, color=[_ABSENT, _PRESENT], label=["absent", "present"])
    axes.set(xlim=(-0.02, 1.02), xlabel="score", ylabel="cases")
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6, loc="upper center", ncols=2)
