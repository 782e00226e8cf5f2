"""The object of a C-STORE while it comes: written to a Part 10 file (PS3.10 section 7), within limits.

What cannot be kept is read to its end all the same, since a C-STORE is answered only then (PS3.7 9.1.1), and refused.
"""

import errno
import os
import re
import secrets
from concurrent.futures import Executor, Future, wait
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from node.acceptor.associate import AnsweredContext
from node.intake.received import Reading
from schemas.errors import ChexnodeError, InstanceUidError, ObjectTooLargeError, OutOfResourcesError, SopClassError
from schemas.identity import IMPLEMENTATION_CLASS_UID, implementation_version_name

#: PS3.5 section 9.1, but for leading zeros, which real devices send.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
#: How often free space is looked at while an object comes.
_LOOK_EVERY_BYTES = 8 << 20
_BEGIN_EVERY_BYTES = 2 << 20


class Space:
    """How much may be written where objects arrive.

    Parameters
    ----------
    folder
        Where objects arrive, on the file system of the object store.
    minimum_free_bytes
        What has to stay free there.
    maximum_object_bytes
        The largest object.
    """

    def __init__(self, folder: Path, minimum_free_bytes: int, maximum_object_bytes: int) -> None:
        self.folder = folder
        self._minimum_free_bytes = minimum_free_bytes
        self._maximum_object_bytes = maximum_object_bytes

    def check(self) -> None:
        """Raise OutOfResourcesError below the watermark."""
        disk = os.statvfs(self.folder)
        if disk.f_bavail * disk.f_frsize < self._minimum_free_bytes:
            raise OutOfResourcesError("Less than storage.minimum_free_bytes is free.")

    def check_size(self, size: int) -> None:
        """Raise ObjectTooLargeError."""
        if size > self._maximum_object_bytes:
            raise ObjectTooLargeError(f"Over dicom.maximum_object_bytes ({self._maximum_object_bytes}).")


class IncomingObject:
    """A sink that is a file of its own. Its writer is one thread.

    Parameters
    ----------
    readers
        Threads that read a large object while the rest of it comes.
    context, command
        Of the C-STORE-RQ.
    """

    def __init__(self, space: Space, readers: Executor, context: AnsweredContext, command: Dataset) -> None:
        self._space = space
        self._readers = readers
        self._path = space.folder / f"{secrets.token_hex(12)}.dcm"
        self._reading = Reading(self._path)
        #: What a reader does of it, once there is enough.
        self._read: Future[None] | None = None
        self._descriptor: int | None = None
        #: Bytes that came, with the preamble and group 0002.
        self.size = 0
        self._look_at = 0
        #: Up to where writing to the disk has begun.
        self._begun = 0
        self._refusal: Exception | None = None
        try:
            meta = _file_meta(context, command)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self.size = len(meta)
            self._append(memoryview(meta))
        except (ChexnodeError, OSError) as error:
            self._refuse(error)

    def write(self, fragment: memoryview) -> None:
        """Append; after the first failure only count."""
        self.size += len(fragment)
        if self._refusal is None:
            try:
                self._append(fragment)
            except (ChexnodeError, OSError) as error:
                self._refuse(error)

    def discard(self) -> None:
        if self._read is not None:
            self._read.cancel()
        self._close()
        self._path.unlink(missing_ok=True)

    def complete(self) -> Reading:
        """The whole file, the caller's from now on. Raises what stood in the way: a ChexnodeError, or OSError."""
        if self._descriptor is not None:
            self._begin_writing()
        self._close()
        if self._refusal is not None:
            raise self._refusal
        if self._read is not None and not self._read.cancel():
            # What failed there will fail again where it can be told.
            wait((self._read,))
        return self._reading

    def _append(self, fragment: memoryview) -> None:
        assert self._descriptor is not None
        if self.size >= self._look_at:
            self._space.check()
            self._look_at = self.size + _LOOK_EVERY_BYTES
        self._space.check_size(self.size)
        while len(fragment):
            fragment = fragment[os.write(self._descriptor, fragment) :]
        if self.size - self._begun >= _BEGIN_EVERY_BYTES:
            self._begin_writing()
            if self._read is None or self._read.done():
                self._read = self._readers.submit(self._reading.advance)

    def _begin_writing(self) -> None:
        """Have the kernel write to the disk what it has of the file, without waiting: little is left for the fsync."""
        assert self._descriptor is not None
        # Linux begins to write what is dirty in the range, and drops what is clean: nothing of what has just come.
        os.posix_fadvise(self._descriptor, self._begun, self.size - self._begun, os.POSIX_FADV_DONTNEED)
        self._begun = self.size

    def _refuse(self, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
            error = OutOfResourcesError(f"{error.strerror}.")
        self._refusal = error
        # What came so far takes no space while the rest comes.
        self.discard()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _file_meta(context: AnsweredContext, command: Dataset) -> bytes:
    """Preamble, prefix and group 0002. Raises SopClassError or InstanceUidError."""
    sop_class = str(command.get("AffectedSOPClassUID", ""))
    if sop_class != context.abstract_syntax:
        raise SopClassError(f"{sop_class} came in a context of another class.")
    instance = str(command.get("AffectedSOPInstanceUID", ""))
    if len(instance) > 64 or not _UID.fullmatch(instance):
        raise InstanceUidError("It has 1 to 64 digits and dots.")
    meta = create_file_meta(
        sop_class_uid=UID(sop_class),
        sop_instance_uid=UID(instance),
        transfer_syntax=UID(context.transfer_syntax),
        implementation_uid=UID(IMPLEMENTATION_CLASS_UID),
        implementation_version=implementation_version_name(),
    )
    return bytes(128) + b"DICM" + encode_file_meta(meta)
