"""What curation keeps of an image's pixels: enough to find it again elsewhere and to judge whether it is usable."""

import base64
import hashlib
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict
from scipy.fft import dctn

from training.sources.source import Sample

#: Longer side of the kept thumbnail; ribs are still told apart on it.
THUMBNAIL_SIDE = 64
#: Side of the square that the hash is made of, and of its lowest frequencies.
_HASHED, _FREQUENCIES = 32, 8


class Fingerprint(BaseModel):
    """One image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    columns: int
    #: Hexadecimal SHA-256 over size and pixels, 16 bits each: equal for equal pictures, in whatever file format.
    sha256: str
    #: 63 bits: the signs of the lowest frequencies (DCT) of the image squeezed to a square, the mean left out.
    frequencies: int
    #: Longer side `THUMBNAIL_SIDE`, 8 bits, row by row in base64.
    thumbnail: str
    #: Between the 5th and the 95th percentile of the greys, 0..1.
    contrast: float

    def thumbnail_pixels(self) -> NDArray[np.float32]:
        """float32 [rows, columns], 0..1."""
        values = np.frombuffer(base64.b64decode(self.thumbnail), np.uint8)
        rows, columns = thumbnail_size(self.rows, self.columns)
        return values.reshape(rows, columns).astype(np.float32) / np.float32(255)


def fingerprint(sample: Sample) -> Fingerprint:
    """Read the image and describe it. Raises what reading it raises."""
    return fingerprint_of(sample.read())


def fingerprint_of(image: NDArray[np.float32]) -> Fingerprint:
    """Describe an image, float32 [rows, columns] 0..1."""
    rows, columns = image.shape
    exact = hashlib.sha256(f"{rows}x{columns}\0".encode())
    exact.update(np.round(image * 65535).astype("<u2").tobytes())
    square = _reduced(image, _HASHED, _HASHED)
    lowest = dctn(square, norm="ortho")[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:]
    thumbnail = np.round(_reduced(image, *thumbnail_size(rows, columns)) * 255).astype(np.uint8)
    low, high = np.percentile(square, (5, 95))
    return Fingerprint(
        rows=rows,
        columns=columns,
        sha256=exact.hexdigest(),
        frequencies=sum(1 << bit for bit, value in enumerate(lowest) if value > 0),
        thumbnail=base64.b64encode(thumbnail.tobytes()).decode(),
        contrast=float(high - low),
    )


def thumbnail_size(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of the thumbnail of an image of this size."""
    scale = THUMBNAIL_SIDE / max(rows, columns)
    return max(1, math.floor(rows * scale + 0.5)), max(1, math.floor(columns * scale + 0.5))


def _reduced(image: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BOX))
