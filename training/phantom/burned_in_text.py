"""Annotations that somebody wrote into the finished picture: words that must not be read instead of the film.

Called by render and not_chest; side markers of lead are drawn elsewhere.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

#: None of them depends on view or devices: what is written is as often wrong as right.
_TEXTS = ("PORTABLE", "AP", "PA", "SUPINE", "ERECT", "SEMI-ERECT", "MOBILE", "ICU", "ET", "ET/OG", "NG", "LINE", "#2")


@dataclass(frozen=True, eq=False)
class BurnedInText:
    """Up to three annotations."""

    count: int
    #: float32 [rows, columns] in 0..1; None when there is no text.
    ink: NDArray[np.float32] | None

    def onto(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The picture with the text on it."""
        return image if self.ink is None else np.asarray(np.maximum(image, self.ink), dtype=np.float32)


def draw_burned_in_text(rng: np.random.Generator, rows: int, columns: int) -> BurnedInText:
    """Words, times and signs near the left and right rim of the image."""
    count = int(rng.choice(4, p=[0.55, 0.25, 0.13, 0.07]))
    if count == 0:
        return BurnedInText(0, None)
    picture = Image.new("L", (columns, rows))
    draw = ImageDraw.Draw(picture)
    for _ in range(count):
        text = f"{rng.integers(24):02d}:{rng.integers(60):02d}" if rng.random() < 0.2 else str(rng.choice(_TEXTS))
        font = _font(max(8, round(rows * rng.uniform(0.018, 0.045))))
        left, top, right, bottom = font.getbbox(text)
        room = max(0.0, columns - (right - left))
        x = rng.uniform(0, 0.06) * columns if rng.random() < 0.5 else room - rng.uniform(0, 0.06) * columns
        y = rng.beta(0.6, 0.6) * max(0.0, rows - (bottom - top))
        draw.text((float(np.clip(x, 0, room)) - left, y - top), text, fill=int(rng.integers(205, 256)), font=font)
    return BurnedInText(count, np.asarray(picture, dtype=np.float32) / np.float32(255))


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
