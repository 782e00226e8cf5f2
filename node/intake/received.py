"""A received Part 10 file as the ledger sees it: its identity and its three digests, read without decoding a pixel.

The three digests tell a duplicate, changed pixels and a changed header apart (BLAKE3, which takes a quarter of the time
of SHA-256, by which files are named):
- data set: the bytes after group 0002 as they came (those from Pixel Data on by their own digest);
- pixels: transfer syntax, image module (group 0028 without spacing, Presentation LUT Shape) and everything from Pixel
  Data (7FE0,0010) on;
- header: every other element.
"""

import hashlib
import mmap
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from blake3 import blake3
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from schemas.errors import IdentityError, NotDicomError

#: PS3.5 section 9.1, but for leading zeros, which real devices send.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
#: Pixel Spacing and its calibration describe the patient's geometry, not what the network sees.
_SPACING = {0x00280030, 0x00280A02, 0x00280A04}
_PRESENTATION_LUT_SHAPE = 0x20500020
#: Largest deflated data set, inflated: far above any radiograph (PS3.5 A.5 is meant for reports).
_INFLATED_LIMIT = 64 << 20
_INFLATE_STEP = 1 << 20
_PIECE = 256 << 10
#: From this size on one file at a time is parsed, and every deflated one: all but Pixel Data is in memory meanwhile,
#: and sixty senders may bring a private element of a gigabyte, or a deflated one, at once.
_LARGE_BYTES = 32 << 20
_parsing_large = threading.Lock()
#: Longer values are of no use but for the digests.
_LONGEST_KEPT_VALUE = 1 << 20
_PIXEL_DATA = {0x7FE00008, 0x7FE00009, 0x7FE00010}
#: As they lie in a file, in both byte orders.
_PIXEL_DATA_TAGS = {struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF) for tag in _PIXEL_DATA for order in "<>"}


@dataclass(frozen=True)
class ReceivedFile:
    """What is known of a received object."""

    path: Path
    #: Data set up to Pixel Data.
    header: Dataset
    has_pixel_data: bool
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    patient_id: str
    #: Hex, as the digests are.
    file_sha256: str
    dataset_digest: str
    pixel_digest: str
    header_digest: str


def read_received(path: Path) -> ReceivedFile:
    """Read identity and digests of the Part 10 file at `path`.

    Raises NotDicomError when it cannot be parsed, IdentityError when it does not say which object it is.
    """
    return Reading(path).finish()


@dataclass(frozen=True)
class _Head:
    """What comes before Pixel Data, and where."""

    syntax: UID
    header: Dataset
    #: Bytes of the file at which the data set and Pixel Data begin; without Pixel Data its length.
    start: int
    end: int


class Reading:
    """Reads a Part 10 file, also while it is still being written: nearly all of the work is digests of its pixels.

    Not for several threads at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head: _Head | None = None
        self._tried = False
        #: So much of the file is in the digests.
        self._at = 0
        self._file, self._dataset, self._pixels = hashlib.sha256(), blake3(), blake3()

    def advance(self) -> None:
        """Take in what there is of the file, as soon as that has all that comes before Pixel Data.

        Raises OSError.
        """
        if not self._tried:
            self._tried = True
            self._head = _find_head(self.path)
        if self._head is not None:
            self._digest(self._head, self.path.stat().st_size)

    def finish(self) -> ReceivedFile:
        """The file is whole. Raises as read_received."""
        try:
            size = self.path.stat().st_size
            if size == 0:
                raise NotDicomError("The file is empty.")
            if self._head is not None:
                return self._finish(self._head, size)
            with _mapped(self.path) as content, _parsing_large if _is_large(content) else nullcontext():
                return self._finish(_read_head(self.path, content), size)
        except (NotDicomError, IdentityError):
            raise
        except InvalidDicomError as error:
            raise NotDicomError("It is no DICOM Part 10 file: the prefix DICM is missing.") from error
        except Exception as error:
            raise NotDicomError(f"Parsing failed: {type(error).__name__}.", said=error) from error

    def _finish(self, head: _Head, size: int) -> ReceivedFile:
        header = head.header
        image, rest = blake3(head.syntax.encode()), blake3()
        if head.syntax == DeflatedExplicitVRLittleEndian:
            pixels = [header.pop(tag) for tag in sorted(header.keys()) if tag in _PIXEL_DATA]
            for element in pixels:
                _update(image, element)
            has_pixel_data = any(element.value for element in pixels)
        else:
            # More than the element's own tag, VR and length.
            has_pixel_data = size - head.end > 12
        self._digest(head, size)
        self._dataset.update(self._pixels.digest())
        image.update(self._pixels.digest())
        for tag in sorted(header.keys()):
            element = header.get_item(tag)
            _update(image if _is_image(tag) else rest, element)
            if _is_long(element):
                del header[tag]
        return ReceivedFile(
            path=self.path,
            header=header,
            has_pixel_data=has_pixel_data,
            sop_class_uid=_uid(header, "SOPClassUID"),
            sop_instance_uid=_uid(header, "SOPInstanceUID"),
            series_instance_uid=_uid(header, "SeriesInstanceUID"),
            study_instance_uid=_uid(header, "StudyInstanceUID"),
            transfer_syntax_uid=str(head.syntax),
            patient_id=text(header, "PatientID"),
            file_sha256=self._file.hexdigest(),
            dataset_digest=self._dataset.hexdigest(),
            pixel_digest=image.hexdigest(),
            header_digest=rest.hexdigest(),
        )

    def _digest(self, head: _Head, size: int) -> None:
        """Go on with the digests up to `size`.

        Nearly all of a file lies from Pixel Data on. It is read once, in pieces that stay in the processor's cache,
        and hashed once for both digests that it is a part of.
        """
        buffer = memoryview(bytearray(_PIECE))
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(self._at)
            for until, part in ((head.start, None), (head.end, self._dataset), (size, self._pixels)):
                while self._at < until and (count := stream.readinto(buffer[: until - self._at])):
                    self._at += count
                    self._file.update(buffer[:count])
                    if part is not None:
                        part.update(buffer[:count])


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _find_head(path: Path) -> _Head | None:
    """What comes before Pixel Data, where a file that is not whole has all of that; None where it has not."""
    try:
        with _mapped(path) as content:
            if _is_large(content):
                return None
            head = _read_head(path, content)
            return head if content[head.end : head.end + 4] in _PIXEL_DATA_TAGS else None
    except Exception:  # noqa: BLE001 - what is wrong with it will be said of the whole file
        return None


def _is_large(content: mmap.mmap) -> bool:
    """Whether to parse one such file at a time."""
    # The transfer syntax lies in the first elements of the file.
    return len(content) > _LARGE_BYTES or content.find(DeflatedExplicitVRLittleEndian.encode(), 0, 1024) >= 0


def _read_head(path: Path, content: mmap.mmap) -> _Head:
    """As far as Pixel Data; of a deflated data set everything."""
    source: IO[bytes] = cast(IO[bytes], content)
    meta = read_file_meta_info(path)
    syntax = UID(str(meta.get("TransferSyntaxUID", "")))
    if not syntax:
        raise NotDicomError("The file meta information names no transfer syntax.")
    # Preamble, "DICM", the group length element itself, and what it counts (PS3.10 section 7.1).
    start = 132 + 12 + int(meta.FileMetaInformationGroupLength)
    if syntax == DeflatedExplicitVRLittleEndian:
        _check_inflated_size(content, start)
        return _Head(syntax, dcmread(source), start, len(content))
    header = dcmread(source, stop_before_pixels=True)
    # dcmread() left the stream at the Pixel Data element, or at the end where there is none.
    return _Head(syntax, header, start, content.tell())


def text(header: Dataset, keyword: str) -> str:
    """The value as text, "" when absent, empty or unreadable; undecodable characters are replaced, NUL dropped."""
    try:
        value = header.get(keyword)
    except Exception:  # noqa: BLE001 - a value that pydicom cannot convert must not stop the reception
        return ""
    return "" if value is None else str(value).replace("\0", "").strip()


def _uid(header: Dataset, keyword: str) -> str:
    value = text(header, keyword)
    if not value:
        raise IdentityError(f"{keyword} is missing or empty; the sender has to supply it.")
    if len(value) > 64 or not _UID.fullmatch(value):
        # It will be part of file names and URLs.
        raise IdentityError(f"{keyword} is no UID: 1 to 64 digits and dots.")
    return value


def _is_image(tag: BaseTag) -> bool:
    return (tag.group == 0x0028 and tag not in _SPACING) or tag == _PRESENTATION_LUT_SHAPE


def _is_long(element: DataElement | RawDataElement) -> bool:
    return isinstance(element, RawDataElement) and len(element.value or b"") > _LONGEST_KEPT_VALUE


def _check_inflated_size(content: mmap.mmap, start: int) -> None:
    """Raise NotDicomError for a deflated data set that would not fit into memory: 1 MB can inflate to 1 GB."""
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    pending = content[start:]
    while pending and not inflater.eof:
        size += len(inflater.decompress(pending, _INFLATE_STEP))
        pending = inflater.unconsumed_tail
        if size > _INFLATED_LIMIT:
            raise NotDicomError(f"Its deflated data set is larger than {_INFLATED_LIMIT >> 20} MiB.")


def _update(digest: Any, element: DataElement | RawDataElement) -> None:
    digest.update(f"{int(element.tag):08x}{element.VR}".encode())
    if isinstance(element, RawDataElement):
        digest.update(element.value or b"")
    elif element.VR == "SQ":
        for item in element.value:
            for tag in sorted(item.keys()):
                _update(digest, item.get_item(tag))
            digest.update(b"|")
    else:
        digest.update(repr(element.value).encode())
