"""Reading a radiograph: the header without pixels, and the pixels as a radiologist would see them.

Called by the inference task (in a process pool: decoders hold the GIL and may crash) and by training on DICOM data.
"""

import warnings

# Keep this import although nothing here uses it. The GDCM wheel brings a zlib of its own; when `import gdcm` is what
# first loads the system's libz, that binds to GDCM's and corrupts the heap of whoever compresses next (Pillow's PNG).
import zlib  # noqa: F401
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
)

from node.intake.attributes import number, text
from schemas.errors import ChexnodeError, NotDicomError, ObjectMissingError, PixelDataError, UnsupportedImageError
from workers.bars import Area, area_without_bars
from workers.grayscale import presentation_values

#: More pixels than any detector has (43 x 43 cm at 0.07 mm are 38 million): a header that claims more is a bomb.
MAXIMUM_PIXELS = 64_000_000

#: pydicom's plugins by name and in order, not whatever is installed: pyjpegls, which highdicom brings along, ponders
#: for seconds over a cut JPEG-LS stream that GDCM rejects at once.
_PLUGINS = ("gdcm", "pydicom")
#: pylibjpeg is asked for JPEG 2000 alone (OpenJPEG): for JPEG it would load the GPL pylibjpeg-libjpeg if installed.
_JPEG_2000_PLUGINS = ("gdcm", "pylibjpeg")
#: Their codestream says itself how many bits it has and whether they are signed, and pydicom follows it.
_SELF_DESCRIBING = {*JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes}
_UNCOMPRESSED = {
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
}


def read_header(path: Path) -> Dataset:
    """The data set of the Part 10 file at `path` without its pixels.

    Raises NotDicomError when it cannot be parsed, ObjectMissingError when the file cannot be read.
    """
    return _parse(path, stop_before_pixels=True)


@dataclass(frozen=True, eq=False)
class Film:
    """A radiograph as a radiologist would see it."""

    #: float32 [rows, columns], 0 = black to 1 = white, bones bright: the MONOCHROME2 sense.
    pixels: NDArray[np.float32]
    #: The film without bars at its sides.
    area: Area

    @property
    def rows(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def columns(self) -> int:
        return int(self.pixels.shape[1])


def read_film(path: Path) -> Film:
    """The image at `path`: pixels, and where it has no bars.

    Decoded by GDCM, OpenJPEG or pydicom, depending on the transfer syntax; then `presentation_values`.

    Raises
    ------
    ObjectMissingError, NotDicomError
        The file cannot be read or parsed.
    UnsupportedImageError
        It is colour, multi-frame, or of more than 16 bits: sound, but not a radiograph as we know it.
    PixelDataError
        There are no pixels, or they cannot be decoded, whatever the decoder had to say about them.
    """
    dataset = _parse(path, stop_before_pixels=False)
    with _decoding(dataset):
        container = _decoded(dataset, path)
        return Film(_shown(container, dataset), area_without_bars(container))


def read_pixels(path: Path) -> NDArray[np.float32]:
    """The pixels of `read_film`, float32 [rows, columns]; raises what that raises."""
    return read_film(path).pixels


def read_area(path: Path) -> Area:
    """The area of `read_film`, for who needs no pixels; raises what that raises."""
    dataset = _parse(path, stop_before_pixels=False)
    with _decoding(dataset):
        return area_without_bars(_decoded(dataset, path))


@contextmanager
def _decoding(dataset: Dataset) -> Iterator[None]:
    """Check the data set, and turn what decoders raise into PixelDataError."""
    try:
        # What pydicom warns of (precision that differs from Bits Stored, odd lengths) it also deals with.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check(dataset)
            yield
    except ChexnodeError:
        raise
    except Exception as error:
        syntax = UID(text(dataset.file_meta, "TransferSyntaxUID"))
        raise PixelDataError(
            f"Decoding {syntax.name} failed ({_first_line(error)}); the file is damaged or not standard. "
            "Ask the sender to send it again, best uncompressed."
        ) from error


def _parse(path: Path, *, stop_before_pixels: bool) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dcmread(path, stop_before_pixels=stop_before_pixels)
    except OSError as error:
        raise ObjectMissingError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:
        raise NotDicomError(f"Parsing {path.name} failed ({_first_line(error)}).") from error


def _check(dataset: Dataset) -> None:
    """Raise unless this is a single grey frame of integers of a size that a detector can have."""
    if "PixelData" not in dataset:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise UnsupportedImageError("Its pixels are floating-point numbers; radiographs have integers.")
        raise PixelDataError("It has no Pixel Data element; ask the sender to send it again with pixels.")
    if not dataset.PixelData:
        raise PixelDataError("Its Pixel Data element is empty; ask the sender to send it again with pixels.")
    samples, photometric = number(dataset, "SamplesPerPixel"), text(dataset, "PhotometricInterpretation")
    if samples not in (None, 1) or photometric not in ("", "MONOCHROME1", "MONOCHROME2"):
        raise UnsupportedImageError(f"It is a {photometric or 'colour'} image; only grey images are analysed.")
    if not photometric:
        raise PixelDataError("It has no Photometric Interpretation, so black and white cannot be told apart.")
    frames = number(dataset, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise UnsupportedImageError(f"It has {frames:.0f} frames; only single-frame images are analysed.")
    rows, columns = number(dataset, "Rows") or 0, number(dataset, "Columns") or 0
    if rows < 1 or columns < 1:
        raise PixelDataError(f"It claims {rows:.0f} rows and {columns:.0f} columns.")
    if rows * columns > MAXIMUM_PIXELS:
        raise UnsupportedImageError(f"It claims {rows:.0f} x {columns:.0f} pixels; at most {MAXIMUM_PIXELS} are read.")
    allocated, stored = number(dataset, "BitsAllocated"), number(dataset, "BitsStored")
    if allocated not in (8, 16):
        raise UnsupportedImageError(f"It has {allocated} bits per pixel; 8 and 16 are supported (PS3.3 C.8.11.3).")
    if stored is None or not 1 <= stored <= allocated:
        raise PixelDataError(f"Its Bits Stored is {stored} of {allocated:.0f} allocated.")


def _decoded(dataset: Dataset, path: Path) -> NDArray[np.integer]:
    """The pixels as they are in the container, [rows, columns], 8 or 16 bits; unused bits are still there."""
    syntax = UID(text(dataset.file_meta, "TransferSyntaxUID"))
    if not syntax:
        raise PixelDataError("Its file meta information names no transfer syntax.")
    dataset.SamplesPerPixel, dataset.NumberOfFrames = 1, 1
    if "PixelRepresentation" not in dataset:
        # Required (PS3.3 C.7.6.3); who leaves it out means the usual.
        dataset.PixelRepresentation = 0
    if syntax == JPEGExtended12Bit and dataset.BitsStored > 8:
        return _decoded_by_gdcm(dataset, path)
    decoder = get_decoder(syntax)
    options: dict[str, Any] = {"raw": True, "correct_unused_bits": False}
    if syntax in _UNCOMPRESSED:
        options["view_only"] = True
        return decoder.as_array(dataset, **options)[0]
    failures = []
    plugins = _JPEG_2000_PLUGINS if syntax in JPEG2000TransferSyntaxes else _PLUGINS
    for plugin in (name for name in plugins if name in decoder.available_plugins):
        try:
            return decoder.as_array(dataset, decoding_plugin=plugin, **options)[0]
        except Exception as error:  # noqa: BLE001 - see read_pixels; the next decoder may be more tolerant
            failures.append(_first_line(error))
    raise PixelDataError(
        f"No decoder could read its {syntax.name} ({'; '.join(failures) or 'none is installed'}); the file is damaged "
        "or not standard. Ask the sender to send it again, best uncompressed."
    )


def _decoded_by_gdcm(dataset: Dataset, path: Path) -> NDArray[np.integer]:
    """JPEG Extended of 12 bits, which GDCM decodes from a file, but not through pydicom's plugin."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    content = reader.GetImage().GetBuffer() if reader.Read() else None
    expected = dataset.Rows * dataset.Columns * 2
    # GDCM hands bytes over as text with surrogates; nothing when the codestream is broken.
    buffer = b"" if content is None else cast(str, content).encode("utf-8", "surrogateescape")
    if len(buffer) != expected:
        raise PixelDataError(
            f"Decoding its JPEG Extended gave {len(buffer)} of {expected} bytes; the codestream is damaged. "
            "Ask the sender to send it again, best uncompressed."
        )
    return np.frombuffer(buffer, "<i2" if dataset.PixelRepresentation == 1 else "<u2").reshape(
        dataset.Rows, dataset.Columns
    )


def _shown(container: NDArray[np.integer], dataset: Dataset) -> NDArray[np.float32]:
    """The grey of each pixel, float32 [rows, columns], by a table over the values that occur."""
    signed = container.dtype.kind == "i"
    bits = 8 * container.dtype.itemsize
    # As unsigned numbers of this machine's byte order the pixels are indices of the table.
    index = container.astype(container.dtype.newbyteorder("="), copy=False).view(f"u{container.dtype.itemsize}")
    occurs = np.zeros(2**bits, bool)
    occurs[index] = True
    found = np.flatnonzero(occurs)
    stored = found
    if UID(text(dataset.file_meta, "TransferSyntaxUID")) not in _SELF_DESCRIBING:
        # Overlay bits above (PS3.5 8.1.1, retired but stored in many archives) are not part of the value.
        bits = int(dataset.BitsStored)
        lowest = int(number(dataset, "HighBit") or bits - 1) - bits + 1
        stored = (found >> max(lowest, 0)) & (2**bits - 1)
    if signed:
        stored = np.where(stored >= 2 ** (bits - 1), stored - 2**bits, stored)
    table = np.zeros(len(occurs), np.float32)
    table[found] = presentation_values(stored, dataset)
    shown: NDArray[np.float32] = table[index]
    return shown


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # pydicom's first line only announces what each plugin said.
    return lines[1 if len(lines) > 1 else 0] if lines else type(error).__name__
