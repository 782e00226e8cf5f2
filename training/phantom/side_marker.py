"""The lead letter that names a side: L or R. Called by render.py."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.phantom.geometry import Geometry
from training.phantom.truth import View

#: Share of images with one.
_MARKED = 0.85


def draw_side_marker(rng: np.random.Generator, geometry: Geometry) -> NDArray[np.float32] | None:
    """Coverage by the letter, float32 [rows, columns] in 0..1; None where none was laid down.

    The patient's right is on the image's left; a letter may be turned or mirrored, its side is always right.
    """
    if rng.random() >= _MARKED:
        return None
    rows, columns = geometry.rows, geometry.columns
    left = bool(rng.random() < 0.5) or geometry.view is View.LATERAL
    size = int(max(8, rng.uniform(13, 26) / geometry.imager_mm_per_pixel))
    picture = Image.new("L", (2 * size, 2 * size))
    draw = ImageDraw.Draw(picture)
    draw.text((size, size), "L" if left else "R", fill=255, font=ImageFont.load_default(size), anchor="mm")
    if rng.random() < 0.25:
        radius = 0.68 * size
        ring = (size - radius, size - radius, size + radius, size + radius)
        draw.ellipse(ring, outline=255, width=max(1, size // 14))
    if rng.random() < 0.15:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.rotate(
        float(rng.choice([0.0, 0.0, 0.0, 90.0, -90.0])) + rng.normal(0, 6), Image.Resampling.BILINEAR
    )
    across = rng.uniform(0.03, 0.16)
    x = int((1 - across if left else across) * columns) - size
    y = int(rng.uniform(0.03, 0.3) * rows) - size
    layer = Image.new("L", (columns, rows))
    layer.paste(picture, (x, y))
    return np.asarray(layer, dtype=np.float32) / np.float32(255)
