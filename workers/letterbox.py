"""The preprocessing profile "letterbox": the whole image, its longer side = `size`, centred, the rest filled with 0.

Training, inference and the interpretation of outputs use this one mapping. Points are x = column, y = row with
(0, 0) = the top left corner of the top left pixel, in the image (SCOORD, PS3.3 C.18.6.1.1) as in the model's input.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Letterbox:
    """The mapping between an image of `rows` x `columns` pixels and the model's input of `size` x `size`.

    The scaled image has whole pixels, so the scales of the two axes may differ by half a model pixel over the whole
    side; `to_model` and `to_image` know the exact ones.
    """

    rows: int
    columns: int
    size: int

    @property
    def width(self) -> int:
        """Columns of the scaled image, 1..size."""
        return max(1, round(self.columns * self.size / max(self.rows, self.columns)))

    @property
    def height(self) -> int:
        """Rows of the scaled image, 1..size."""
        return max(1, round(self.rows * self.size / max(self.rows, self.columns)))

    @property
    def left(self) -> int:
        """Empty columns left of the scaled image."""
        return (self.size - self.width) // 2

    @property
    def top(self) -> int:
        """Empty rows above the scaled image."""
        return (self.size - self.height) // 2

    def apply(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The model's input float32 [size, size], 0..1, of an image float32 [rows, columns], 0..1."""
        if (self.height, self.width) == image.shape:
            scaled = image
        else:
            # Pillow's triangle filter widens with the scale, so it averages when it shrinks and interpolates when
            # it enlarges. Whole-number box averaging first (reducing_gap) leaves it a quarter of the work.
            resized = Image.fromarray(image).resize(
                (self.width, self.height), Image.Resampling.BILINEAR, reducing_gap=2.0
            )
            scaled = np.asarray(resized)
        canvas = np.zeros((self.size, self.size), np.float32)
        canvas[self.top : self.top + self.height, self.left : self.left + self.width] = scaled
        return canvas

    def to_model(self, points: Points) -> Points:
        """Image points [N, 2] (x, y) in the model's input."""
        return np.asarray(points, np.float64) * self._scale + self._offset

    def to_image(self, points: Points) -> Points:
        """Points [N, 2] (x, y) of the model's input in the image; the inverse of `to_model`."""
        return (np.asarray(points, np.float64) - self._offset) / self._scale

    def upsample(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map float32 [h, w] that covers the model's whole input, at any stride, on the image's pixels.

        Bilinear between the centres of the map's cells; returns float32 [rows, columns].
        """
        return self._resampled(values, 0, 0, self.columns, self.rows)

    def upsample_mask(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """`upsample(logits) > 0`, bool [rows, columns], computed only around the cells that are positive."""
        mask = np.zeros((self.rows, self.columns), bool)
        down, across = np.nonzero(logits > 0)
        if len(down):
            # A positive cell reaches one cell farther.
            cells = np.array([[across.min() - 1, down.min() - 1], [across.max() + 2, down.max() + 2]])
            corners = self.to_image(cells * (self.size / np.array([logits.shape[1], logits.shape[0]])))
            left, top = np.floor(corners[0]).clip(0, [self.columns, self.rows]).astype(int).tolist()
            right, bottom = np.ceil(corners[1]).clip(0, [self.columns, self.rows]).astype(int).tolist()
            if left < right and top < bottom:
                mask[top:bottom, left:right] = self._resampled(logits, left, top, right, bottom) > 0
        return mask

    def _resampled(
        self, values: NDArray[np.float32], left: int, top: int, right: int, bottom: int
    ) -> NDArray[np.float32]:
        """A map of the whole input on the image's pixels [top:bottom, left:right]."""
        corners = self.to_model(np.array([[left, top], [right, bottom]]))
        box = corners * (np.array([values.shape[1], values.shape[0]]) / self.size)
        # Pillow refuses a box that rounding has put outside by 1e-14.
        x0, y0, x1, y1 = box.clip(0, [values.shape[1], values.shape[0]]).ravel().tolist()
        image = Image.fromarray(np.ascontiguousarray(values, np.float32))
        size = (right - left, bottom - top)
        return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=(x0, y0, x1, y1)))

    @property
    def _scale(self) -> Points:
        return np.array([self.width / self.columns, self.height / self.rows])

    @property
    def _offset(self) -> Points:
        return np.array([self.left, self.top], np.float64)
