"""Where an image lies on the screen, by plain geometry, and how far what is drawn lies from there.

A viewport shows the whole image as large as it fits, centred (OHIF's default). None of OHIF's arithmetic is used.
Points are (x, y): of the image as in SCOORD (PS3.3 C.18.6.1.1), of the screen in pixels from the viewport's upper left
corner.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from scipy import ndimage

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

#: Difference of a colour channel from which on a pixel counts as changed.
_CHANGED = 6


@dataclass(frozen=True)
class Placement:
    """An image of rows x columns square pixels in a viewport of width x height screen pixels."""

    rows: int
    columns: int
    width: float
    height: float

    @property
    def scale(self) -> float:
        """Screen pixels per image pixel."""
        return min(self.width / self.columns, self.height / self.rows)

    def to_screen(self, x: float, y: float) -> tuple[float, float]:
        return (
            self.width / 2 + (x - self.columns / 2) * self.scale,
            self.height / 2 + (y - self.rows / 2) * self.scale,
        )

    def _centres(self) -> tuple[Floats, Floats]:
        """Image coordinates (x, y) of the centres of the screen's pixels, each [height, width]."""
        down, right = np.mgrid[0 : round(self.height), 0 : round(self.width)] + 0.5
        return (
            (right - self.width / 2) / self.scale + self.columns / 2,
            (down - self.height / 2) / self.scale + self.rows / 2,
        )

    def project(self, mask: NDArray[np.bool_]) -> Mask:
        """The mask [rows, columns] on the screen, bool [height, width]."""
        x, y = self._centres()
        inside = (x >= 0) & (x < self.columns) & (y >= 0) & (y < self.rows)
        column, row = (np.floor(each).astype(int) for each in (x, y))
        column, row = column.clip(0, self.columns - 1), row.clip(0, self.rows - 1)
        projected: Mask = inside & mask[row, column]
        return projected

    def render(self, grey: Floats) -> tuple[Floats, Mask]:
        """The image [rows, columns] on the screen and where it is, each [height, width]."""
        x, y = self._centres()
        inside: Mask = (x >= 1) & (x < self.columns - 1) & (y >= 1) & (y < self.rows - 1)
        return ndimage.map_coordinates(grey, [y - 0.5, x - 0.5], order=1, mode="nearest"), inside


def image_shift(placement: Placement, grey: Floats, shown: Pixels) -> tuple[float, float, float]:
    """How far the image on the screen lies from where it should: right, down (screen pixels), and correlation.

    One step of least squares on the gradients (Lucas and Kanade 1981), after smoothing; `grey` is [rows, columns].
    """
    expected, inside = placement.render(grey)
    smooth = [ndimage.gaussian_filter(each, 2.0) for each in (expected, shown.mean(axis=2))]
    inside = ndimage.binary_erosion(inside, iterations=8)
    down, right = np.gradient(smooth[0])
    values = [each[inside] for each in (smooth[0], right, down)]
    # shown = gain * expected(shifted) + offset, linear in gain, gain * shift, offset.
    terms = np.stack([values[0], -values[1], -values[2], np.ones_like(values[0])], axis=1)
    (gain, shift_right, shift_down, _), *_ = np.linalg.lstsq(terms, smooth[1][inside], rcond=None)
    correlation = np.corrcoef(smooth[0][inside], smooth[1][inside])[0, 1]
    return float(shift_right / gain), float(shift_down / gain), float(correlation)


def changed(before: Pixels, after: Pixels) -> Mask:
    """Where two screenshots differ."""
    difference = np.abs(after.astype(int) - before.astype(int)).max(axis=2)
    where: Mask = difference >= _CHANGED
    return where


def edge_distances(expected: Mask, shown: Mask, margin: int = 4) -> Floats:
    """Distances of each edge pixel of either mask from the other's edge, screen pixels, without the screen's border."""
    edges = [each & ~ndimage.binary_erosion(each) for each in (expected, shown)]
    inner = np.zeros_like(expected)
    inner[margin:-margin, margin:-margin] = True
    found = [
        ndimage.distance_transform_edt(~other)[edge & inner]
        for edge, other in ((edges[0], edges[1]), (edges[1], edges[0]))
    ]
    return np.concatenate(found)


def overlap(one: Mask, other: Mask) -> float:
    """Dice's coefficient."""
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


def segment_masks(segmentation: Dataset) -> dict[str, Mask]:
    """Mask [rows, columns] of each segment of a binary segmentation of one image, by its label (PS3.3 A.51)."""
    frames = np.atleast_3d(segmentation.pixel_array)
    frames = frames.reshape(-1, segmentation.Rows, segmentation.Columns)
    labels = {each.SegmentNumber: str(each.SegmentLabel) for each in segmentation.SegmentSequence}
    masks: dict[str, Mask] = {}
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        masks[labels[number]] = frame > 0
    return masks


def fill_colour(before: Pixels, after: Pixels, where: Mask) -> Floats:
    """The colour that was laid over a region: after = (1 - alpha) * before + alpha * colour, float [3] of 0..255."""
    grey = before[where].astype(float).mean(axis=1)
    terms = np.stack([grey, np.ones_like(grey)], axis=1)
    solved = np.linalg.lstsq(terms, after[where].astype(float), rcond=None)[0]
    kept = float(solved[0].mean())
    return np.asarray(solved[1] / (1 - kept), dtype=np.float64)


def display_colour(cielab: tuple[float, float, float]) -> Floats:
    """sRGB float [3] of 0..255 of a CIELab colour with the white point D65 (CIE 15; IEC 61966-2-1)."""
    lightness, a, b = cielab
    middle = (lightness + 16) / 116
    tristimulus = np.array([0.95047, 1.0, 1.08883]) * [
        root**3 if root > 6 / 29 else 3 * (6 / 29) ** 2 * (root - 4 / 29)
        for root in (middle + a / 500, middle, middle - b / 200)
    ]
    linear = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]) @ tristimulus
    linear = linear.clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(encoded * 255, dtype=np.float64)
