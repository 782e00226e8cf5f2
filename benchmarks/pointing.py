"""Whether a class's attention points at its finding: places, hits and their figures. Called by pointing_game.py.

The pointing game (Zhang et al., arXiv 1608.00507): a hit is a map whose maximum lies within the place of what it is
asked about, or no farther from it than a stated tolerance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.ndimage import distance_transform_edt

from schemas.bundle import Metric
from schemas.codes import Finding, Segment
from training.evaluation.statistics import mean, metric, share
from training.examples.placing import BITS
from training.examples.store import Examples
from training.examples.targets import COURSES, DEVICES, TARGETS

Mask = NDArray[np.bool_]

#: Findings that lie in the lungs: for these chance is a point of the lungs, for all others one of the whole film.
_IN_LUNGS = frozenset(
    {
        Finding.PLEURAL_EFFUSION,
        Finding.PNEUMOTHORAX,
        Finding.CONSOLIDATION,
        Finding.ATELECTASIS,
        Finding.NODULE,
        Finding.MASS,
    }
)
_PRESENCE = {f"{device.value}.presence": COURSES[number] for number, device in enumerate(DEVICES)}
#: Classes whose place a phantom knows.
PLACED: tuple[str, ...] = (
    *sorted(finding.value for finding in _IN_LUNGS),
    Finding.CARDIOMEGALY.value,
    Finding.RIB_FRACTURE.value,
    Finding.CLAVICLE_FRACTURE.value,
    *_PRESENCE,
)


@dataclass(frozen=True, eq=False)
class Game:
    """One head's hits on n images of K classes; NaN where a class is absent, or its place is not known."""

    targets: tuple[str, ...]
    #: float64 [n, K]: 1 when the maximum of the class's own map is a hit.
    hits: NDArray[np.float64]
    #: Share of the other classes' maps on the same image whose maximum is a hit there too.
    others: NDArray[np.float64]
    #: Share of the points of the lungs, or of the film, that would be hits.
    chance: NDArray[np.float64]


class ClassFigures(BaseModel):
    """Of one class, or the mean over all; with 95 % intervals by patient (each phantom is one)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str
    #: What chance is a point of: "lungs", "film", or "" in the mean.
    area: str
    hit: Metric
    others: Metric
    chance: Metric
    #: Paired, image by image.
    over_others: Metric
    over_chance: Metric


def place_of(examples: Examples, row: int, target: str) -> Mask | None:
    """Where `target` is on an image, bool [S / 2, S / 2]; None where nobody knows, or where there is nothing.

    An enlarged heart is the heart, a device its whole course.
    """
    if target in _PRESENCE:
        return _course(examples, row, COURSES.index(_PRESENCE[target]))
    name = Segment.HEART if target == Finding.CARDIOMEGALY.value else Finding(target)
    return _mask(examples, row, name)


def play(examples: Examples, targets: Sequence[str], peaks: NDArray[np.float64], tolerance: float) -> Game:
    """The hits of one head.

    Other classes that are present at the same place hit it rightly: the difference to them is rather too small.

    Parameters
    ----------
    peaks : [n, K, 2], where each class's map is greatest, (x, y) in pixels of the model's input
    tolerance : pixels of the model's input that a hit may lie beside the place
    """
    shape = (len(examples), len(targets))
    hits, others, chance = (np.full(shape, np.nan) for _ in range(3))
    present = examples.classes[:, [TARGETS.index(target) for target in targets]] == 1
    for row, column in zip(*np.nonzero(present), strict=True):
        target = targets[column]
        place = place_of(examples, row, target)
        area = _area(examples, row, target)
        if place is None or not area.any():
            continue
        near = _within(place, tolerance)
        cells = np.clip(peaks[row] / 2, 0, len(near) - 1).astype(int)
        struck = near[cells[:, 1], cells[:, 0]]
        hits[row, column] = struck[column]
        others[row, column] = np.delete(struck, column).mean()
        chance[row, column] = near[area].mean()
    return Game(tuple(targets), hits, others, chance)


def peaks_of(attention: NDArray[np.float32], grid: tuple[int, int], size: int) -> NDArray[np.float64]:
    """The centre [n, K, 2] of the patch that is looked at most, (x, y) in pixels of the input of `size`.

    `attention` is [n, heads, K, N], patches row by row; the map is the mean over the heads: none of them is chosen.
    """
    best = attention.mean(axis=1).argmax(axis=2)
    rows, columns = grid
    centres: NDArray[np.float64] = np.stack(
        [(best % columns + 0.5) * (size / columns), (best // columns + 0.5) * (size / rows)], axis=2
    )
    return centres


def figures_of(game: Game) -> list[ClassFigures]:
    """Every class that is present on any image, then the mean over them."""
    figures = []
    for column, target in enumerate(game.targets):
        known = np.isfinite(game.hits[:, column])
        if not known.any():
            continue
        hits, others, chance = (each[known, column] for each in (game.hits, game.others, game.chance))
        hit = share("hit", hits > 0.5)
        figures.append(
            ClassFigures(
                target=target,
                area="lungs" if target in _IN_LUNGS else "film",
                hit=hit,
                others=metric("others", others, mean),
                chance=metric("chance", chance, mean),
                over_others=_over("over others", hits, others, hit),
                over_chance=_over("over chance", hits, chance, hit),
            )
        )
    if figures:
        figures.append(
            ClassFigures(
                target="mean",
                area="",
                hit=_macro("hit", game.hits),
                others=_macro("others", game.others),
                chance=_macro("chance", game.chance),
                over_others=_macro("over others", game.hits - game.others),
                over_chance=_macro("over chance", game.hits - game.chance),
            )
        )
    return figures


def difference(name: str, ours: Game, theirs: Game) -> Metric:
    """Hits of `ours` less those of `theirs` on the same images, mean over the classes."""
    return _macro(name, ours.hits - theirs.hits)


def _over(name: str, hits: NDArray[np.float64], baseline: NDArray[np.float64], hit: Metric) -> Metric:
    """Paired difference; where all or none are hits, resamples show no doubt of that, so that of `hit` counts."""
    figure = metric(name, hits - baseline, mean)
    if 0 < hit.value < 1:
        return figure
    low, high = (bound - float(baseline.mean()) for bound in (hit.low, hit.high))
    return figure.model_copy(update={"low": min(figure.low, low), "high": max(figure.high, high)})


def _macro(name: str, values: NDArray[np.float64]) -> Metric:
    """Mean over the classes of [n, K]; images are drawn whole, a class that a draw has no case of is left out of it."""
    shown = np.isfinite(values).any(axis=1)
    return metric(name, values[shown], _mean_over_classes)


def _mean_over_classes(values: NDArray[np.floating]) -> float:
    known = np.isfinite(values)
    cases = known.sum(axis=0)
    return float((np.where(known, values, 0).sum(axis=0)[cases > 0] / cases[cases > 0]).mean())


def _within(place: Mask, tolerance: float) -> Mask:
    """Cells whose centre lies no farther than `tolerance` model pixels from the place; a cell has two."""
    near: Mask = np.asarray(distance_transform_edt(~place)) * 2 <= tolerance
    return near


def _area(examples: Examples, row: int, target: str) -> Mask:
    half = examples.size // 2
    if target in _IN_LUNGS:
        lungs = np.zeros((half, half), np.bool_)
        for side in (Segment.RIGHT_LUNG, Segment.LEFT_LUNG):
            mask = _mask(examples, row, side)
            lungs |= False if mask is None else mask
        return lungs
    film = np.zeros((half, half), np.bool_)
    left, top, right, bottom = (examples.areas[row] // 2).tolist()
    film[top:bottom, left:right] = True
    return film


def _mask(examples: Examples, row: int, name: Segment | Finding) -> Mask | None:
    bit = BITS.index(name)
    if not examples.masks_known[row] >> bit & 1:
        return None
    mask: Mask = (examples.masks[row] >> bit & 1).astype(np.bool_)
    return mask if mask.any() else None


def _course(examples: Examples, row: int, number: int) -> Mask | None:
    half = examples.size // 2
    points = examples.courses[row, number] / 2
    points = points[np.isfinite(points).all(axis=1) & (points >= 0).all(axis=1) & (points < half).all(axis=1)]
    if not len(points):
        return None
    line = np.zeros((half, half), np.bool_)
    line[points[:, 1].astype(int), points[:, 0].astype(int)] = True
    return _within(line, float(examples.radii[row, number]))
