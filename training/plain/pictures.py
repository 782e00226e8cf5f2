"""Pictures of a run: predictions drawn on their films."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from schemas.codes import Segment
from training.plain.films import Film
from training.plain.reading import said_of_tube
from workers.interpret import Interpretation

_COLOURS = {Segment.RIGHT_LUNG: "lime", Segment.LEFT_LUNG: "deepskyblue", Segment.HEART: "red"}


def save_predictions(examples: Sequence[tuple[Film, Interpretation]], path: Path) -> None:
    """Outlines, course, tip and carina as found (crosses), tip and carina as drawn (circles)."""
    columns = 4
    rows = -(-len(examples) // columns)
    figure = Figure(figsize=(4 * columns, 4.2 * rows), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, (film, interpretation) in zip(grid, examples, strict=False):
        _draw(axes, film, interpretation)
    figure.savefig(path, dpi=80)


def _draw(axes: Axes, film: Film, interpretation: Interpretation) -> None:
    phantom = film.phantom
    axes.imshow(phantom.image, cmap="gray", vmin=0, vmax=1)
    for segment, mask in interpretation.masks.items():
        if segment in _COLOURS:
            axes.contour(mask, [0.5], colors=_COLOURS[segment], linewidths=0.8)
    tube = said_of_tube(interpretation)
    axes.plot([point.x for point in tube.course], [point.y for point in tube.course], color="yellow", linewidth=1)
    truths = [(phantom.carina, "cyan")] + ([] if phantom.tube is None else [(phantom.tube.tip, "magenta")])
    for point, colour in truths:
        axes.plot(point.x, point.y, "o", markerfacecolor="none", markeredgecolor=colour)
    for found, colour in ((tube.carina, "cyan"), (tube.tip, "magenta")):
        if found is not None:
            axes.plot(found.x, found.y, "x", color=colour)
    drawn = "no tube" if phantom.tube is None else f"{phantom.tube.tip_to_carina_mm:.0f} mm"
    distance = tube.tip_to_carina
    read = f"{distance.millimetres:.0f} mm" if distance is not None and distance.millimetres is not None else "none"
    axes.set_title(f"{phantom.seed}: drawn {drawn}, read {read}", fontsize=9)
