"""Reading attributes of headers that may be wrong in any way: each function answers "absent" instead of raising.

pydicom converts a value when it is first read, and what a broken one raises depends on its VR, its bytes and its
character set; hence the blind `except` here, once, instead of a guess at every place that reads a header.
"""

import math
from collections.abc import Sequence

from pydicom import Dataset
from pydicom.multival import MultiValue


def values(header: Dataset, keyword: str) -> list[object]:
    """The values of an attribute, one item per value (VM 1 gives one); empty when absent, empty or unreadable."""
    try:
        value = getattr(header, keyword, None)
        if value is None or (isinstance(value, str) and not value.strip()):
            return []
        if isinstance(value, MultiValue | list | tuple):
            return list(value)
    except Exception:  # noqa: BLE001 - see the module's docstring
        return []
    return [value]


def texts(header: Dataset, keyword: str) -> list[str]:
    """The values as text, stripped, in upper case, without empty ones."""
    try:
        stripped = [str(value).strip(" \0\t\r\n").upper() for value in values(header, keyword) if value is not None]
    except Exception:  # noqa: BLE001 - see the module's docstring
        return []
    return [text for text in stripped if text]


def text(header: Dataset, keyword: str) -> str:
    """The first non-empty value as text, stripped, in upper case; "" when there is none."""
    return next(iter(texts(header, keyword)), "")


def numbers(header: Dataset, keyword: str) -> list[float]:
    """The values as finite numbers; empty when any of them is none."""
    try:
        found = [float(value) for value in values(header, keyword)]  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - see the module's docstring
        return []
    return found if all(math.isfinite(value) for value in found) else []


def number(header: Dataset, keyword: str) -> float | None:
    """The first value as a finite number."""
    return next(iter(numbers(header, keyword)), None)


def items(header: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; empty when absent or not a sequence."""
    try:
        value = getattr(header, keyword, None)
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            return []
        return [item for item in value if isinstance(item, Dataset)]
    except Exception:  # noqa: BLE001 - see the module's docstring
        return []
