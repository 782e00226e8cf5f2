"""Where an image lies on the screen, by plain geometry, and how far what is drawn lies from there.

A viewport shows the whole image as large as it fits, centred (OHIF's default). None of OHIF's arithmetic is used.
Points are (x, y): of the image as in SCOORD (PS3.3 C.18.6.1.1), of the screen in pixels from the upper left corner of
the viewport's screenshot, which begins at a whole pixel where the viewport itself need not.
"""

import math
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
class Box:
    """A rectangle on the screen, CSS pixels, which are screen pixels here."""

    left: float
    top: float
    width: float
    height: float

    def whole(self) -> "Box":
        """The least rectangle of whole pixels that holds it."""
        left, top = math.floor(self.left), math.floor(self.top)
        return Box(left, top, math.ceil(self.left + self.width) - left, math.ceil(self.top + self.height) - top)


@dataclass(frozen=True)
class Placement:
    """An image of rows x columns square pixels in a viewport."""

    rows: int
    columns: int
    viewport: Box

    @property
    def scale(self) -> float:
        """Screen pixels per image pixel."""
        return min(self.viewport.width / self.columns, self.viewport.height / self.rows)

    def to_screen(self, x: float, y: float) -> tuple[float, float]:
        middle_x, middle_y = self._middle
        return middle_x + (x - self.columns / 2) * self.scale, middle_y + (y - self.rows / 2) * self.scale

    @property
    def corner(self) -> tuple[float, float]:
        """The viewport's upper left corner in its screenshot."""
        whole = self.viewport.whole()
        return self.viewport.left - whole.left, self.viewport.top - whole.top

    @property
    def _middle(self) -> tuple[float, float]:
        left, top = self.corner
        return left + self.viewport.width / 2, top + self.viewport.height / 2

    def _centres(self) -> tuple[Floats, Floats]:
        """Image coordinates (x, y) of the centres of the screenshot's pixels, each [height, width]."""
        whole = self.viewport.whole()
        down, right = np.mgrid[0 : round(whole.height), 0 : round(whole.width)] + 0.5
        middle_x, middle_y = self._middle
        return (right - middle_x) / self.scale + self.columns / 2, (down - middle_y) / self.scale + self.rows / 2

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


def fill_colours(before: Pixels, after: Pixels, where: dict[str, Mask]) -> dict[str, Floats]:
    """The colours laid over regions of a grey image, sRGB float [3] of 0..255, by name; regions may not overlap.

    after = (1 - alpha) * before + alpha * colour with one alpha for all, which is the common slope of after on before.
    """
    greys = {name: before[region].astype(float).mean(axis=1) for name, region in where.items()}
    shades = {name: after[region].astype(float) for name, region in where.items()}
    covariance = variance = 0.0
    for name, grey in greys.items():
        centred = grey - grey.mean()
        covariance += float((centred[:, None] * shades[name]).sum()) / 3
        variance += float((centred**2).sum())
    kept = covariance / variance
    return {
        name: np.asarray((shades[name].mean(axis=0) - kept * grey.mean()) / (1 - kept)) for name, grey in greys.items()
    }


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
