"""Predictions drawn on their phantoms, for the report. Called by training/evaluation/looks.py."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from schemas.codes import Device, Segment
from training.evaluation.films import PhantomFilm
from training.phantom.truth import DeviceKind
from workers.interpret import Interpretation

_REGIONS = {Segment.RIGHT_LUNG: "lime", Segment.LEFT_LUNG: "deepskyblue", Segment.HEART: "red"}
_DEVICES = {
    Device.ENDOTRACHEAL_TUBE: "yellow",
    Device.NASOGASTRIC_TUBE: "orange",
    Device.CENTRAL_VENOUS_CATHETER: "violet",
}
_CARINA = "cyan"
_COLUMNS = 4


def save_predictions(examples: Sequence[tuple[PhantomFilm, Interpretation]], path: Path) -> None:
    """Outlines, courses, tips and carina as found (lines, crosses); tips and carina as drawn (circles)."""
    rows = max(1, -(-len(examples) // _COLUMNS))
    figure = Figure(figsize=(3.6 * _COLUMNS, 4 * rows), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, (film, said) in zip(grid, examples, strict=False):
        _draw(axes, film, said)
    figure.savefig(path, dpi=80)


def _draw(axes: Axes, film: PhantomFilm, said: Interpretation) -> None:
    phantom = film.phantom
    axes.imshow(phantom.image, cmap="gray", vmin=0, vmax=1)
    for segment, colour in _REGIONS.items():
        if segment in said.masks and said.masks[segment].any():
            axes.contour(said.masks[segment], [0.5], colors=colour, linewidths=0.8)
    for device, colour in _DEVICES.items():
        drawn = phantom.device(DeviceKind(device.value))
        if drawn is not None and drawn.tip is not None:
            axes.plot(drawn.tip.x, drawn.tip.y, "o", markerfacecolor="none", markeredgecolor=colour)
    carina = phantom.landmarks.get("carina")
    if carina is not None:
        axes.plot(carina.x, carina.y, "o", markerfacecolor="none", markeredgecolor=_CARINA)
    for tube in said.tubes:
        colour = _DEVICES[tube.device]
        axes.plot([point.x for point in tube.course], [point.y for point in tube.course], color=colour, linewidth=1)
        for found, found_colour in ((tube.tip, colour), (tube.carina, _CARINA)):
            if found is not None:
                axes.plot(found.x, found.y, "x", color=found_colour)
    axes.set_title(f"{phantom.seed}: {_words(film, said)}", fontsize=8)


def _words(film: PhantomFilm, said: Interpretation) -> str:
    if said.refused:
        return f"refused: {said.refused[:40]}"
    drawn = film.phantom.device(DeviceKind.ENDOTRACHEAL_TUBE)
    truth = "no tube" if drawn is None or drawn.tip_to_carina_mm is None else f"{drawn.tip_to_carina_mm:.0f} mm"
    tube = next((each for each in said.tubes if each.device is Device.ENDOTRACHEAL_TUBE), None)
    distance = None if tube is None or tube.tip_to_carina is None else tube.tip_to_carina.millimetres
    return f"drawn {truth}, read {'none' if distance is None else f'{distance:.0f} mm'}"
