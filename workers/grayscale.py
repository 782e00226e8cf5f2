"""The grayscale pipeline of PS3.4 N.2: from stored values to what a display shows, black = 0 and white = 1.

Padding -> Modality LUT -> VOI LUT -> polarity. It works on the distinct values of an image, not on its pixels, in
float64: nothing is rounded or clipped to 8 or 16 bits on the way.
"""

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.intake.attributes import items, number, numbers, text, values
from schemas.errors import PixelDataError

#: A VOI LUT that leaves less contrast than this (of 1) shows a black or white film; it belongs to other values (a
#: window in Hounsfield or before a conversion), and every reader would set another window.
LEAST_CONTRAST = 0.05

Values = NDArray[np.float64]


def presentation_values(stored: NDArray[np.integer], header: Dataset) -> NDArray[np.float32]:
    """The grey, float32 [N] 0..1, of each of the distinct stored values [N] that an image holds.

    Pixel padding (PS3.3 C.7.5.1.1.2) is black and does not take part in any statistics. A constant image becomes 0.
    Raises PixelDataError when the Modality LUT cannot be read.
    """
    grey = np.zeros(len(stored), np.float32)
    image = ~_is_padding(stored, header)
    if not image.any():
        return grey
    modality = _modality_values(stored[image].astype(np.float64), header)
    shown = _voi_values(modality, header)
    if shown is None or np.ptp(shown) < LEAST_CONTRAST:
        spread = float(np.ptp(modality))
        if spread == 0:
            return grey
        # PS3.3 C.11.2.1.2.1: without a VOI LUT the application chooses; all values that occur are shown.
        shown = (modality - modality.min()) / spread
    grey[image] = 1.0 - shown if _minimum_is_white(header) else shown
    return grey


def _minimum_is_white(header: Dataset) -> bool:
    """Whether the pipeline's lowest output is to be shown as white.

    Presentation LUT Shape (PS3.3 C.8.11.3 and C.7.6.1) does not come on top of Photometric Interpretation, it says
    the same again: INVERSE shall be used with MONOCHROME1, IDENTITY with MONOCHROME2. Applying both would show every
    conformant MONOCHROME1 DX image as a negative. Where they contradict each other the shape counts, because it is
    what defines the output as P-Values, and because DCMTK, dcm4che and highdicom do the same.
    """
    shape = text(header, "PresentationLUTShape")
    if shape in ("IDENTITY", "INVERSE"):
        return shape == "INVERSE"
    return text(header, "PhotometricInterpretation") == "MONOCHROME1"


def _is_padding(stored: NDArray[np.integer], header: Dataset) -> NDArray[np.bool_]:
    first = number(header, "PixelPaddingValue")
    if first is None:
        return np.zeros(len(stored), bool)
    last = number(header, "PixelPaddingRangeLimit")
    signed = number(header, "PixelRepresentation") == 1
    low, high = sorted(_as_signed(int(value), signed) for value in (first, first if last is None else last))
    return (stored >= low) & (stored <= high)


def _modality_values(stored: Values, header: Dataset) -> Values:
    """PS3.3 C.11.1: the Modality LUT where there is one, or else slope and intercept."""
    for item in items(header, "ModalityLUTSequence")[:1]:
        table = _lookup_table(item, signed=number(header, "PixelRepresentation") == 1)
        if table is None:
            raise PixelDataError("Its Modality LUT Sequence has no usable table; the sender has to correct it.")
        first, data, _ = table
        return _looked_up(stored, first, data)
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    # A slope of 0 would make the image constant: it cannot be meant.
    return stored * (slope or 1.0) + (intercept or 0.0)


def _voi_values(modality: Values, header: Dataset) -> Values | None:
    """PS3.3 C.11.2: the first VOI LUT, or else the first window, as 0..1; None when there is none that makes sense.

    The LUT comes first where there are both: it is the curve that the manufacturer designed for this image, the
    window its approximation for displays without LUTs.
    """
    for item in items(header, "VOILUTSequence")[:1]:
        # PS3.3 C.11.2.1.1: the first value mapped is signed when the output of the Modality LUT can be.
        table = _lookup_table(item, signed=bool(modality.min() < 0))
        if table is not None:
            first, data, highest = table
            return _looked_up(modality, first, data) / highest
    centres, widths = numbers(header, "WindowCenter"), numbers(header, "WindowWidth")
    if not centres or not widths:
        return None
    centre, width = centres[0], widths[0]
    function = text(header, "VOILUTFunction")
    if function == "SIGMOID" and width > 0:
        # 1 / (1 + exp(-4 (x - c) / w)), PS3.3 C.11.2.1.3.1, written so that it cannot overflow.
        return 0.5 * (1.0 + np.tanh(2.0 * (modality - centre) / width))
    if function == "LINEAR_EXACT" and width > 0:
        return np.clip((modality - centre) / width + 0.5, 0.0, 1.0)
    if width > 1:
        # LINEAR, PS3.3 C.11.2.1.2.1: centre and width count discrete values.
        return np.clip((modality - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)
    if width == 1:
        return (modality > centre - 0.5).astype(np.float64)
    return None


def _lookup_table(item: Dataset, *, signed: bool) -> tuple[int, Values, float] | None:
    """First value mapped, data, and highest possible output of a LUT item (PS3.3 C.11.1.1); None when it is broken."""
    descriptor = numbers(item, "LUTDescriptor")
    if len(descriptor) != 3:
        return None
    # 0 stands for 65536 entries. The descriptor may have been read with the wrong sign (VR "US or SS").
    entries = int(descriptor[0]) % 65536 or 65536
    data = _table_data(item, entries)
    if len(data) < entries:
        return None
    bits = int(descriptor[2])
    # Some writers state 8 or 16 bits for a table of 12: then its own highest value is the best answer.
    highest = float(max(2**bits - 1 if 1 <= bits <= 16 else 0, data.max()))
    return _as_signed(int(descriptor[1]), signed), data[:entries], highest or 1.0


def _table_data(item: Dataset, entries: int) -> Values:
    found = values(item, "LUTData")
    if len(found) == 1 and isinstance(found[0], bytes):
        content = found[0]
        if len(content) in (entries, entries + 1):
            return np.frombuffer(content, np.uint8).astype(np.float64)
        order = "<u2" if item.original_encoding[1] is not False else ">u2"
        return np.frombuffer(content[: len(content) // 2 * 2], order).astype(np.float64)
    return np.asarray(found, np.float64) % 65536


def _looked_up(keys: Values, first: int, data: Values) -> Values:
    index = np.clip(np.rint(keys) - first, 0, len(data) - 1).astype(np.intp)
    found: Values = data[index]
    return found


def _as_signed(value: int, signed: bool) -> int:
    """A 16-bit value with the sign that it is meant to have, whichever VR it was read with."""
    value %= 65536
    return value - 65536 if signed and value >= 32768 else value
