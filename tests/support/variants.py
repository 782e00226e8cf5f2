"""The same film as different senders would store it, for the tests and the benchmark of robustness."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from schemas.result import Point
from training.phantom.truth import Phantom
from training.phantom_dicom import Order, phantom_dataset

Film = NDArray[np.float32]


@dataclass(frozen=True)
class Variant:
    """One way to store a film."""

    name: str
    #: The data set of a phantom.
    dataset: Callable[[Phantom], Dataset]
    #: Where a point of the variant's image lies on the phantom's own.
    back: Callable[[Phantom, Point], Point] = lambda phantom, point: point


def stored(
    phantom: Phantom, film: Film, bits: int = 12, *, padding: int | None = None, inverse: bool = False
) -> Dataset:
    """`film` float32 [rows, columns] 0..1 as the phantom's data set, `bits` per pixel and a window over all of them.

    NaN in `film` is stored as the value `padding`.
    """
    dataset = phantom_dataset(phantom, Order(), "MONOCHROME1" if inverse else "MONOCHROME2")
    greatest = 2**bits - 1
    shown = 1 - film if inverse else film
    values = np.round(np.nan_to_num(shown) * greatest)
    if padding is not None:
        # As a sender has to choose it (PS3.3 C.7.5.1.1.2): no pixel of the image has the padding's value.
        values = np.where(
            np.isnan(film), padding, np.where(values == padding, values + (1 if padding == 0 else -1), values)
        )
    dataset.Rows, dataset.Columns = film.shape
    dataset.BitsAllocated = 8 if bits <= 8 else 16
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.WindowCenter, dataset.WindowWidth = str(2 ** (bits - 1)), str(2**bits)
    dataset.PixelData = values.astype("u1" if bits <= 8 else "<u2").tobytes()
    dataset["PixelData"].VR = "OB" if bits <= 8 else "OW"
    if padding is not None:
        dataset.PixelPaddingValue = padding
    return dataset


def windowed(centre: float, width: float, function: str = "LINEAR") -> Callable[[Phantom], Dataset]:
    """Another VOI window; `centre` and `width` as shares of the range."""

    def dataset(phantom: Phantom) -> Dataset:
        made = stored(phantom, phantom.image)
        made.WindowCenter, made.WindowWidth = f"{centre * 4096:.0f}", f"{width * 4096:.0f}"
        made.VOILUTFunction = function
        return made

    return dataset


def barred(across: float, down: float, padding: int | None) -> Variant:
    """Bars at all sides, as shares of the sides; black, or declared as Pixel Padding Value."""

    def margins(phantom: Phantom) -> tuple[int, int]:
        rows, columns = phantom.image.shape
        return round(down * rows), round(across * columns)

    def dataset(phantom: Phantom) -> Dataset:
        y, x = margins(phantom)
        film = np.pad(phantom.image, ((y, y), (x, x)), constant_values=0 if padding is None else np.nan)
        return stored(phantom, film, padding=padding)

    def back(phantom: Phantom, point: Point) -> Point:
        y, x = margins(phantom)
        return Point(x=point.x - x, y=point.y - y)

    name = f"bars {across:.0%} across, {down:.0%} down, " + ("black" if padding is None else f"padding {padding}")
    return Variant(name, dataset, back)


def turned(degrees: float) -> Variant:
    """The film turned about its centre, counter-clockwise as it is looked at; its corners are cut and filled black."""

    def dataset(phantom: Phantom) -> Dataset:
        film = Image.fromarray(phantom.image).rotate(degrees, Image.Resampling.BICUBIC)
        return stored(phantom, np.clip(np.asarray(film), 0, 1))

    def back(phantom: Phantom, point: Point) -> Point:
        rows, columns = phantom.image.shape
        angle = np.deg2rad(degrees)
        x, y = point.x - columns / 2, point.y - rows / 2
        # y points down: counter-clockwise to the eye is (x cos + y sin, y cos - x sin); this is its inverse.
        return Point(
            x=float(columns / 2 + x * np.cos(angle) - y * np.sin(angle)),
            y=float(rows / 2 + x * np.sin(angle) + y * np.cos(angle)),
        )

    return Variant(f"turned by {degrees:g} degrees", dataset, back)


def jpeg(quality: int) -> Callable[[Phantom], Dataset]:
    """JPEG Baseline, 8 bits, lossy."""

    def dataset(phantom: Phantom) -> Dataset:
        made = stored(phantom, phantom.image, 8)
        stream = BytesIO()
        Image.fromarray(np.round(phantom.image * 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
        made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        made.PixelData = encapsulate([stream.getvalue()])
        made["PixelData"].is_undefined_length = True
        made.LossyImageCompression = "01"
        return made

    return dataset


def jpeg_2000(phantom: Phantom) -> Dataset:
    made = stored(phantom, phantom.image)
    made.compress(JPEG2000Lossless, generate_instance_uid=False)
    return made


#: 12 bits of 16, MONOCHROME2, uncompressed, a window over the whole range: what the others are compared with.
ORIGINAL = Variant("original", lambda phantom: stored(phantom, phantom.image))

VARIANTS = [
    Variant("MONOCHROME1", lambda phantom: stored(phantom, phantom.image, inverse=True)),
    Variant("8 bit", lambda phantom: stored(phantom, phantom.image, 8)),
    Variant("10 bit", lambda phantom: stored(phantom, phantom.image, 10)),
    Variant("16 bit", lambda phantom: stored(phantom, phantom.image, 16)),
    Variant("JPEG 2000 lossless", jpeg_2000),
    Variant("JPEG quality 90", jpeg(90)),
    barred(0.08, 0.0, None),
    barred(0.0, 0.08, None),
    barred(0.05, 0.05, 0),
    barred(0.05, 0.05, 4095),
    Variant("window 5 % lower", windowed(0.45, 1.0)),
    Variant("window 5 % higher", windowed(0.55, 1.0)),
    Variant("window 15 % narrower", windowed(0.5, 0.85)),
    Variant("window 15 % wider", windowed(0.5, 1.15)),
    Variant("window sigmoid", windowed(0.5, 1.0, "SIGMOID")),
    turned(5),
    turned(-5),
]
