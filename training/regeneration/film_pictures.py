"""Predictions drawn on radiographs of patients, for the report: pictures, no figures. Called by patients.py.

Only films that nothing was learned from; each names its licence, so that who passes a report on knows what is in it.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from schemas.codes import Device, DistanceBasis, Segment
from training.curation.curate import Curation
from training.evaluation.seeing import look, seen
from training.sources.source import Sample
from workers.bundle import LoadedBundle
from workers.interpret import Interpretation, interpret
from workers.spacing import Spacing

_LUNGS = {Segment.RIGHT_LUNG: "lime", Segment.LEFT_LUNG: "deepskyblue"}
_DEVICES = {
    Device.ENDOTRACHEAL_TUBE: "yellow",
    Device.NASOGASTRIC_TUBE: "orange",
    Device.CENTRAL_VENOUS_CATHETER: "violet",
}
_CARINA, _DRAWN = "cyan", "white"
_COLUMNS = 4
_FEW = 4
#: Letters of a line above a film.
_WIDTH = 52
_NO_SPACING = Spacing(0.0, 0.0, DistanceBasis.NONE)


def save_films(bundle: LoadedBundle, curation: Curation, learned: Curation, folder: Path) -> None:
    """PNG files in `folder`: all films of which somebody drew a tube or line, and the first test films with lungs.

    Parameters
    ----------
    curation : of everything that may be measured on
    learned : what training and calibration had
    """
    taught = {(each.source, each.key) for part in ("train", "val") for each in learned.part(part)}
    usable = [each for part in ("train", "val", "test") for each in curation.part(part)]
    tubes = [each for each in usable if _drawn_devices(each) and (each.source, each.key) not in taught]
    if tubes:
        _save(bundle, tubes, folder / "3 films with tubes, found (lines, crosses) and drawn by a reader (filled).png")
    outlined = [each for each in curation.part("test") if "lungs" in each.masks]
    first = [
        each
        for source in dict.fromkeys(each.source for each in outlined)
        for each in [each for each in outlined if each.source == source][:_FEW]
    ]
    if first:
        _save(bundle, first, folder / "4 lungs of test patients, found (coloured) and drawn by a reader (white).png")


def _drawn_devices(sample: Sample) -> list[Device]:
    return [device for device in _DEVICES if device.value in sample.masks]


def _save(bundle: LoadedBundle, samples: Sequence[Sample], path: Path) -> None:
    rows = max(1, -(-len(samples) // _COLUMNS))
    figure = Figure(figsize=(3.6 * _COLUMNS, 4.1 * rows), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, sample in zip(grid, samples, strict=False):
        _draw(axes, sample, bundle)
    figure.savefig(path, dpi=80)


def _draw(axes: Axes, sample: Sample, bundle: LoadedBundle) -> None:
    image = sample.read()
    placed = seen(image, bundle.manifest)
    output = look(bundle.network, bundle.manifest, placed)
    said = interpret(output, bundle.manifest, placed.placement, _NO_SPACING, age_years=sample.age_years)
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    devices = _drawn_devices(sample)
    for device in devices:
        axes.imshow(_filled(sample.masks[device.value].read(*image.shape), _DEVICES[device]))
    if not devices:
        _outline(axes, sample.masks["lungs"].read(*image.shape), _DRAWN)
    for segment, colour in _LUNGS.items():
        _outline(axes, said.masks.get(segment), colour)
    for tube in said.tubes:
        colour = _DEVICES[tube.device]
        axes.plot([point.x for point in tube.course], [point.y for point in tube.course], color=colour, linewidth=1)
        for found, found_colour in ((tube.tip, colour), (tube.carina, _CARINA)):
            if found is not None:
                axes.plot(found.x, found.y, "x", color=found_colour)
    licence = sample.licence or "licence not stated"
    name = textwrap.fill(f"{sample.source}/{sample.key}", _WIDTH)
    axes.set_title(f"{name}\n{licence}\n{textwrap.fill(_words(said), _WIDTH)}", fontsize=7)


def _outline(axes: Axes, mask: NDArray[np.bool_] | None, colour: str) -> None:
    if mask is not None and mask.any():
        axes.contour(mask, [0.5], colors=colour, linewidths=0.8)


def _filled(mask: NDArray[np.bool_], colour: str) -> NDArray[Any]:
    """RGBA of the mask, half transparent."""
    picture = np.zeros((*mask.shape, 4))
    picture[mask] = to_rgba(colour, 0.35)
    return picture


def _words(said: Interpretation) -> str:
    if said.refused:
        return f"refused: {said.refused}"
    tubes = [f"{each.device.value.replace('_', ' ')} {each.score:.2f}" for each in said.tubes if each.present]
    return "; ".join(tubes) or "no tube or line found"
