"""The trivial baseline beside distances and outlines: where things usually lie on a film, without looking at it.

Fitted on examples that the network learned from; called by training/evaluation/phantoms.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.codes import Device, Landmark, Segment
from schemas.result import Point
from training.examples.placing import BITS
from training.examples.store import Examples
from training.examples.targets import DEVICES, LANDMARKS, REGIONS

#: Side of the squares in which regions are averaged and compared.
OUTLINE_SIDE = 64
#: So many examples say where lungs usually are.
_AVERAGED = 1000

Share = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FilmTruth:
    """What is drawn on a film of `rows` x `columns` pixels: what the baseline is held against, as a reading is."""

    rows: int
    columns: int
    #: In the patient.
    mm_per_pixel: float
    #: Pixel coordinates of what is on the film.
    tips: Mapping[Device, Point]
    carina: Point | None
    #: Between the endotracheal tube's tip and the carina; NaN where one of them is missing.
    tip_to_carina_mm: float
    #: bool [OUTLINE_SIDE, OUTLINE_SIDE], the whole film.
    regions: Mapping[Segment, NDArray[np.bool_]]


class TypicalChest:
    """The median place of tips and carina, their median distance, and what is more often lung than not."""

    def __init__(self, learned: Examples) -> None:
        areas = np.asarray(learned.areas, np.float64)[:, None]
        # Of the film's width and height, so that its size and shape do not matter.
        places = (np.asarray(learned.landmarks, np.float64) - areas[..., :2]) / (areas[..., 2:] - areas[..., :2])
        tips = {device: places[:, row] for row, device in enumerate(DEVICES)}
        carinas = places[:, LANDMARKS.index(Landmark.CARINA)]
        self._tips = {device: _middle(each) for device, each in tips.items()}
        self._carina = _middle(carinas)
        #: Share of the film's height.
        self._distance = float(_middle((carinas - tips[Device.ENDOTRACHEAL_TUBE])[:, 1:])[0])
        self._regions = {region: _usual(learned, region) for region in REGIONS}

    def tip_error_mm(self, film: FilmTruth, device: Device) -> float:
        """How far a device's tip is from where tips are; NaN where none is on the film, or none was learned from."""
        return _apart_mm(film, film.tips.get(device), self._tips[device])

    def carina_error_mm(self, film: FilmTruth) -> float:
        """How far the carina is from where carinas are; NaN as for tips."""
        return _apart_mm(film, film.carina, self._carina)

    def distance_error_mm(self, film: FilmTruth) -> float:
        """How far the distance of tip and carina is from what it usually is; NaN as for tips."""
        return abs(self._distance * film.rows * film.mm_per_pixel - film.tip_to_carina_mm)

    def dice(self, film: FilmTruth, region: Segment) -> float:
        """Overlap of a region with where it usually is; NaN where one of them is unknown."""
        usual, truth = self._regions.get(region), film.regions.get(region)
        if usual is None or truth is None:
            return math.nan
        return float(2 * (usual & truth).sum() / max(1, usual.sum() + truth.sum()))


def shrunk(mask: NDArray[np.bool_], side: int) -> NDArray[np.float32]:
    """For each cell of a square of `side` cells the share of it that is inside, float32 0..1."""
    return np.asarray(Image.fromarray(mask.astype(np.float32)).resize((side, side), Image.Resampling.BOX))


def _middle(points: Share) -> Share:
    """The median of what is known, of each coordinate; NaN where nothing is."""
    known = points[np.isfinite(points).all(axis=1)]
    return np.median(known, axis=0) if len(known) else np.full(points.shape[1], np.nan)


def _usual(learned: Examples, region: Segment) -> NDArray[np.bool_] | None:
    """Where the region is in half of the films or more."""
    bit = BITS.index(region)
    known = np.flatnonzero(np.asarray(learned.masks_known) >> bit & 1)[:_AVERAGED]
    if not len(known):
        return None
    total = np.zeros((OUTLINE_SIDE, OUTLINE_SIDE))
    for row in known:
        # Masks are half as fine as the image that areas are of.
        left, top, right, bottom = (np.asarray(learned.areas[row]) // 2).tolist()
        total += shrunk(
            (np.asarray(learned.masks[row]) >> bit & 1).astype(np.bool_)[top:bottom, left:right], OUTLINE_SIDE
        )
    usual: NDArray[np.bool_] = total >= len(known) / 2
    return usual


def _apart_mm(film: FilmTruth, point: Point | None, usual: Share) -> float:
    if point is None:
        return math.nan
    return film.mm_per_pixel * math.hypot(point.x - usual[0] * film.columns, point.y - usual[1] * film.rows)
