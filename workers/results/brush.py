"""Drawing over a radiograph: sizes that grow with the image, smooth lines, text that reads on any ground."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Colour = tuple[int, int, int]
Position = tuple[float, float]

WHITE: Colour = (240, 240, 240)
GREY: Colour = (165, 170, 175)
RED: Colour = (255, 82, 70)
AMBER: Colour = (255, 190, 60)
GREEN: Colour = (110, 220, 130)

#: Lines and letters of small images are drawn this large and reduced, so that their edges are smooth.
_SMOOTH_SIDE = 1600


@dataclass(frozen=True)
class Brush:
    """A transparent layer over an image of `rows` by `columns`; positions and sizes are in the image's pixels."""

    rows: int
    columns: int
    layer: Image.Image
    #: Pixels of the layer per pixel of the image.
    factor: int

    @classmethod
    def over(cls, rows: int, columns: int) -> "Brush":
        factor = min(4, max(1, -(-_SMOOTH_SIDE // max(rows, columns))))
        return cls(rows, columns, Image.new("RGBA", (columns * factor, rows * factor)), factor)

    @property
    def line_width(self) -> float:
        return max(1.0, min(self.rows, self.columns) / 600)

    @property
    def text_size(self) -> float:
        """Height of a line of text."""
        return max(10.0, min(self.rows, self.columns) * 0.018)

    def lines(self, points: Sequence[Position], colour: Colour, width: float, opacity: float = 1.0) -> None:
        scaled = [(x * self.factor, y * self.factor) for x, y in points]
        fill = (*colour, round(255 * opacity))
        self._draw.line(scaled, fill=fill, width=max(1, round(width * self.factor)), joint="curve")

    def ring(self, centre: Position, radius: float, colour: Colour, width: float, *, filled: bool = False) -> None:
        x, y = centre
        box = [each * self.factor for each in (x - radius, y - radius, x + radius, y + radius)]
        outline_width = max(1, round(width * self.factor))
        self._draw.ellipse(box, outline=colour, width=outline_width, fill=colour if filled else None)

    def panel(self, box: tuple[float, float, float, float], colour: Colour, opacity: float) -> None:
        """Left, top, right, bottom."""
        scaled = [each * self.factor for each in box]
        fill = (*colour, round(255 * opacity))
        self._draw.rounded_rectangle(scaled, radius=self.text_size * self.factor * 0.4, fill=fill)

    def text(self, position: Position, text: str, colour: Colour, *, anchor: str = "lm", halo: bool = True) -> None:
        """`anchor` as in Pillow: horizontal l m r, vertical a(scender) m(iddle) d(escender)."""
        x, y = position
        stroke = round(self.text_size * self.factor * 0.09) if halo else 0
        self._draw.text(
            (x * self.factor, y * self.factor),
            text,
            fill=colour,
            font=self._font,
            anchor=anchor,
            stroke_width=stroke,
            stroke_fill=(0, 0, 0, 200),
        )

    def text_width(self, text: str) -> float:
        return float(self._font.getlength(text)) / self.factor

    def on(self, image: Image.Image) -> Image.Image:
        """The layer laid over `image`, RGB."""
        # Reduced with colours weighted by opacity, else the transparent black around a line darkens its edge.
        layer = self.layer if self.factor == 1 else self.layer.convert("RGBa").reduce(self.factor).convert("RGBA")
        image.paste(layer, mask=layer)
        return image

    @property
    def _draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.layer)

    @property
    def _font(self) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return _font_of(round(self.text_size * self.factor))


def outline(image: Image.Image, mask: NDArray[np.bool_], colour: Colour, width: float) -> None:
    """Draw the smooth border of `mask` [rows, columns], which is not empty, on `image`, RGB of the same size."""
    margin = int(np.ceil(width)) + 3
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
    part = mask[top : int(rows[-1]) + margin + 1, left : int(columns[-1]) + margin + 1]
    # Blurred by a box, the border is a ramp whose height is a distance: 0.5 on the border itself.
    radius = int(np.ceil(width / 2)) + 1
    blurred = Image.fromarray(part.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(radius))
    distance = np.abs(np.asarray(blurred, dtype=np.float32) / 255 - 0.5) * (2 * radius + 1)
    opacity = np.clip((width + 1) / 2 - distance, 0, 1) * 255
    image.paste(colour, (left, top), mask=Image.fromarray(opacity.astype(np.uint8)))


@cache
def _font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
