"""Placement: how an image of any shape comes into a network's square input, and how its outputs come back.

Training, inference and the interpretation of outputs use this one mapping. Points are x = column, y = row with
(0, 0) = the top left corner of the top left pixel, in the image (SCOORD, PS3.3 C.18.6.1.1) as in the model's input.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.preprocessing import Fit, Intensity, Preprocessing, Resampling
from workers.bars import Area

Points = NDArray[np.float64]

#: A range of greys below this (of 1) is what resampling leaves of a constant image: a step of 16 bits is wider.
_LEAST_RANGE = 1e-5
#: Percentiles of the greys that STRETCH puts at these shares of the range.
_STRETCHED = (5, 95)
_FILTERS = {Resampling.BILINEAR: Image.Resampling.BILINEAR, Resampling.BICUBIC: Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Placement:
    """The mapping between an image of `rows` x `columns` pixels and the input that `preprocessing` makes of it.

    The `area` of the image is scaled to `width` x `height` and its top left corner put at (`left`, `top`) of the input,
    all of them whole pixels; what lies outside of the input is cut off, what the area does not reach is 0. Whole pixels
    make the scales of the two axes differ by up to half a model pixel over the whole side: `to_model` and `to_image`
    know the exact ones.
    """

    rows: int
    columns: int
    preprocessing: Preprocessing
    #: The image, or what is left of it without bars.
    area: Area
    #: Columns and rows of the whole scaled area.
    width: int
    height: int
    #: Where it begins in the input; negative where it is cut.
    left: int
    top: int

    @classmethod
    def of(cls, rows: int, columns: int, preprocessing: Preprocessing, area: Area | None = None) -> "Placement":
        """The placement of an image of `rows` x `columns`; of its `area` alone where `preprocessing` cuts bars off.

        Parameters
        ----------
        area : the image without its bars; None: it has none
        """
        if area is None or not preprocessing.cut_bars:
            area = Area(0, 0, columns, rows)
        size = preprocessing.size
        width = height = size
        if preprocessing.fit is Fit.LETTERBOX:
            longer = max(area.rows, area.columns)
            width, height = (max(1, round(side * size / longer)) for side in (area.columns, area.rows))
        elif preprocessing.fit is Fit.CENTRE_CROP:
            # The longer side is rounded down: torchvision's Resize, which the published models were evaluated with.
            shorter, resized = min(area.rows, area.columns), preprocessing.resize or size
            width, height = (resized * side // shorter for side in (area.columns, area.rows))
        if preprocessing.fit is Fit.CENTRE_CROP:
            # As torchvision's CenterCrop: half a pixel goes to the even side.
            left, top = (-round((length - size) / 2) for length in (width, height))
        else:
            left, top = ((size - length) // 2 for length in (width, height))
        return cls(rows, columns, preprocessing, area, width, height, left, top)

    @property
    def size(self) -> int:
        """Side of the model's input in pixels."""
        return self.preprocessing.size

    @property
    def seen(self) -> Points:
        """What the model sees of the image: float64 [2, 2], top left and bottom right corner as image points."""
        corners = self.to_image(np.array([[0, 0], [self.size, self.size]]))
        seen: Points = corners.clip(self._area_corners[0], self._area_corners[1])
        return seen

    def apply(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The input float32 [size, size] in 0..1, not normalised, of an image float32 [rows, columns] in 0..1.

        Placed, with the profile's intensity over the part of the image that the model sees; 0 beside the image. A
        constant image is 0 with every intensity but WINDOW.
        """
        canvas = self.place(image)
        seen = canvas[self._slices]
        seen[:] = with_intensity(seen, self.preprocessing.intensity)
        return canvas

    def place(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The image (or a mask) float32 [rows, columns] in the input float32 [size, size], its greys as they are."""
        if image.shape != (self.rows, self.columns):
            raise ValueError(f"image of shape {image.shape}, wanted {(self.rows, self.columns)}")
        canvas = np.zeros((self.size, self.size), np.float32)
        canvas[self._slices] = self._scaled(image)
        return canvas

    def to_model(self, points: Points) -> Points:
        """Image points [N, 2] (x, y) in the model's input; the model sees those in `seen`."""
        return np.asarray(points, np.float64) * self._scale + self._offset

    def to_image(self, points: Points) -> Points:
        """Points [N, 2] (x, y) of the model's input in the image; the inverse of `to_model`."""
        return (np.asarray(points, np.float64) - self._offset) / self._scale

    def cells_on_image(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Which cells of a map [h, w] over the whole input have their centre on the image."""
        sides = []
        for count, first, length in zip(shape, (self.top, self.left), (self.height, self.width), strict=True):
            centres = (np.arange(count) + 0.5) * (self.size / count)
            sides.append((centres >= first) & (centres <= first + length))
        return np.logical_and.outer(sides[0], sides[1])

    def share_on_image(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Share of each cell's area that lies on the image, float64 [h, w], of a map over the whole input."""
        sides = []
        for count, first, length in zip(shape, (self.top, self.left), (self.height, self.width), strict=True):
            edges = np.clip(np.arange(count + 1) * (self.size / count), first, first + length)
            sides.append(np.diff(edges) * (count / self.size))
        shares: NDArray[np.float64] = np.multiply.outer(sides[0], sides[1])
        return shares

    def upsample(
        self,
        values: NDArray[np.float32],
        size: tuple[int, int] | None = None,
        resampling: Resampling = Resampling.BILINEAR,
    ) -> NDArray[np.float32]:
        """A map float32 [h, w] over the model's whole input, at any stride, as a picture of the whole image.

        Interpolated between the centres of the map's cells. Returns float32 [height, width] of `size` = (width,
        height), by default the image's own pixels; NaN where the model does not see the image.
        """
        width, height = size or (self.columns, self.rows)
        picture = np.full((height, width), np.nan, np.float32)
        left, top, right, bottom = self._seen_pixels(width, height)
        if left < right and top < bottom:
            box = (left, top, right, bottom)
            picture[top:bottom, left:right] = self._resampled(values, (width, height), box, resampling)
        return picture

    def upsample_mask(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """`upsample(logits) > 0`, bool [rows, columns], computed only around the cells that are positive."""
        mask = np.zeros((self.rows, self.columns), bool)
        down, across = np.nonzero(logits > 0)
        if len(down):
            # A positive cell reaches one cell farther.
            cells = np.array([[across.min() - 1, down.min() - 1], [across.max() + 2, down.max() + 2]])
            corners = self.to_image(cells * (self.size / np.array([logits.shape[1], logits.shape[0]])))
            seen = self._seen_pixels(self.columns, self.rows)
            left, top = np.maximum(np.floor(corners[0]), seen[:2]).astype(int).tolist()
            right, bottom = np.minimum(np.ceil(corners[1]), seen[2:]).astype(int).tolist()
            if left < right and top < bottom:
                box = (left, top, right, bottom)
                enlarged = self._resampled(logits, (self.columns, self.rows), box, Resampling.BILINEAR)
                mask[top:bottom, left:right] = enlarged > 0
        return mask

    @property
    def _slices(self) -> tuple[slice, slice]:
        """Rows and columns of the input that are on the image."""
        return (
            slice(max(self.top, 0), min(self.top + self.height, self.size)),
            slice(max(self.left, 0), min(self.left + self.width, self.size)),
        )

    def _scaled(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The pixels of the input that are on the image."""
        y, x = self._slices
        if (self.height, self.width) == (self.area.rows, self.area.columns):
            down, right = self.area.top - self.top, self.area.left - self.left
            return image[y.start + down : y.stop + down, x.start + right : x.stop + right]
        source = self.to_image(np.array([[x.start, y.start], [x.stop, y.stop]]))
        # Pillow refuses a box that rounding has put outside by 1e-14, and a pixel's edge is meant where it is so near.
        source = np.where(np.abs(source - source.round()) < 1e-6, source.round(), source)
        corners = self._area_corners
        box = source.clip(corners[0], corners[1]) - corners[0]
        area = image[self.area.top : self.area.bottom, self.area.left : self.area.right]
        left, top, right, bottom = box.ravel().tolist()
        width, height = x.stop - x.start, y.stop - y.start
        # Pillow's filters widen with the scale, so they average when they shrink and interpolate when they enlarge, and
        # they reach over a box's edges, so that this is a part of the whole area scaled.
        if self.preprocessing.resampling is Resampling.BILINEAR:
            # Whole-number box averaging first (reducing_gap) leaves it a quarter of the work.
            bilinear = Image.Resampling.BILINEAR
            resized = _picture(area).resize((width, height), bilinear, (left, top, right, bottom), reducing_gap=2.0)
            return np.asarray(resized)
        # It overshoots at edges. The published pipelines resize 8-bit pictures, which cuts that off after the first
        # axis and after the second; where it is not, the darkest and the brightest pixel are others than theirs.
        bicubic = Image.Resampling.BICUBIC
        wide = _picture(area).resize((width, self.area.rows), bicubic, (left, 0, right, self.area.rows))
        cut = np.asarray(wide).clip(0.0, 1.0)
        resized = _picture(cut).resize((width, height), bicubic, (0, top, width, bottom))
        return np.asarray(resized).clip(0.0, 1.0)

    def _seen_pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of what is seen of a `width` x `height` picture of the image, by pixels' centres."""
        edges = self.seen * [width / self.columns, height / self.rows]
        # A hair more, so that rounding takes no pixel whose centre lies on the edge.
        left, top = np.ceil(edges[0] - 0.5 - 1e-6).clip(0).astype(int).tolist()
        right, bottom = np.floor(edges[1] + 0.5 + 1e-6).clip(0, [width, height]).astype(int).tolist()
        return left, top, right, bottom

    def _resampled(
        self,
        values: NDArray[np.float32],
        size: tuple[int, int],
        box: tuple[int, int, int, int],
        resampling: Resampling,
    ) -> NDArray[np.float32]:
        """A map of the whole input on the pixels `box` (left, top, right, bottom) of a picture of the image."""
        left, top, right, bottom = box
        corners = np.array([[left, top], [right, bottom]]) * [self.columns, self.rows] / np.array(size)
        cells = np.array([values.shape[1], values.shape[0]])
        source = self.to_model(corners) * (cells / self.size)
        # A pixel that is half outside of the input asks for cells beyond it: the outermost ones go on.
        beyond = max(0.0, -source.min(), (source - cells).max())
        margin = 0 if beyond < 1e-6 else int(np.ceil(beyond))
        if margin:
            values, source, cells = np.pad(values, margin, mode="edge"), source + margin, cells + 2 * margin
        # Pillow refuses a box that rounding has put outside by 1e-14.
        x0, y0, x1, y1 = source.clip(0, cells).ravel().tolist()
        resized = _picture(values).resize((right - left, bottom - top), _FILTERS[resampling], (x0, y0, x1, y1))
        return np.asarray(resized)

    @property
    def _scale(self) -> Points:
        return np.array([self.width / self.area.columns, self.height / self.area.rows])

    @property
    def _offset(self) -> Points:
        offset: Points = np.array([self.left, self.top]) - self._area_corners[0] * self._scale
        return offset

    @property
    def _area_corners(self) -> Points:
        return np.array([[self.area.left, self.area.top], [self.area.right, self.area.bottom]], np.float64)


def _picture(values: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(values, np.float32))


def with_intensity(seen: NDArray[np.float32], intensity: Intensity) -> NDArray[np.float32]:
    """Greys of the seen part of an image, float32 0..1 of any shape, as a profile's intensity has them, 0..1."""
    if intensity is Intensity.WINDOW:
        return seen
    if intensity is Intensity.STRETCH:
        return _stretched(seen)
    darkest = seen.min()
    brightest = np.percentile(seen, 99) if intensity is Intensity.PERCENTILE_99 else seen.max()
    if brightest - darkest < _LEAST_RANGE:
        return np.zeros_like(seen)
    spread: NDArray[np.float32] = ((np.minimum(seen, brightest) - darkest) / (brightest - darkest)).astype(np.float32)
    return spread


def _stretched(seen: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.percentile(seen, _STRETCHED).tolist()
    if high - low < _LEAST_RANGE:
        # Nearly all of it is one grey: what little there is beside it shall not vanish.
        return with_intensity(seen, Intensity.MIN_MAX)
    share = _STRETCHED[0] / 100
    slope = (1 - 2 * share) / (high - low)
    stretched: NDArray[np.float32] = ((seen - low) * slope + share).clip(0, 1).astype(np.float32)
    return stretched
