"""Films with what each head looks at, and where the finding is. Called by benchmarks/pointing_game.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.pointing import place_of
from training.examples.store import Examples
from training.examples.targets import TARGETS

_DPI = 90
_SIDE = 3.2


def save_sheet(
    examples: Examples,
    targets: Sequence[str],
    maps: Mapping[str, NDArray[np.float32]],
    peaks: Mapping[str, NDArray[np.float64]],
    path: Path,
) -> None:
    """One row per class: the first film that shows it, its place outlined; then every head's map and its maximum (+).

    Parameters
    ----------
    maps : by head, [n, K, rows, columns]
    peaks : by head, [n, K, 2], (x, y) in pixels of the model's input
    """
    shown = [(target, row) for target in targets if (row := _first(examples, target)) is not None]
    size = examples.size
    figure = Figure(figsize=(_SIDE * (1 + len(maps)), _SIDE * max(1, len(shown))), layout="constrained")
    panels = figure.subplots(max(1, len(shown)), 1 + len(maps), squeeze=False)
    for line, (target, row) in zip(panels, shown, strict=False):
        place = place_of(examples, row, target)
        column = list(targets).index(target)
        for axes, name in zip(line, ["", *maps], strict=True):
            axes.imshow(examples.images[row], cmap="gray", vmin=0, vmax=255, extent=(0, size, size, 0))
            if name:
                seen = maps[name][row, column]
                axes.imshow(seen, cmap="inferno", alpha=0.45, extent=(0, size, size, 0), interpolation="bilinear")
                axes.plot(*peaks[name][row, column], marker="+", color="cyan", markersize=14, markeredgewidth=2)
            assert place is not None
            across = np.arange(len(place)) * 2 + 1
            axes.contour(across, across, place, levels=[0.5], colors="lime", linewidths=1)
            axes.set_title(name or target, fontsize=9)
            axes.set_axis_off()
    figure.savefig(path, dpi=_DPI)


def _first(examples: Examples, target: str) -> int | None:
    """The first film that shows it: nothing is chosen by how well a head does there."""
    rows = np.flatnonzero(examples.classes[:, TARGETS.index(target)] == 1)
    return next((int(row) for row in rows if place_of(examples, int(row), target) is not None), None)
