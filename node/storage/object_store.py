"""The object store: bytes under their SHA-256. Put first, then one short ledger commit of digests.

What a call has returned for survives kill -9 and power loss: fsync the file, rename, fsync the folder. Here are what
everybody else relies on (ObjectStore) and the folder; over HTTP: node/storage/http_store.py; which one:
node/storage/stores.py.
"""

import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from node.storage.durable import sync_folder
from schemas.errors import ObjectMissingError, OutOfResourcesError

_NO_ROOM = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE),
    *(errno.EACCES, errno.EPERM),
}


class ObjectStore(Protocol):
    """Where bytes are kept, whichever host they lie on.

    Every method raises StoreUnavailableError where another host would have to answer and does not.
    """

    def put(self, content: bytes) -> str:
        """Keep `content`; returns its SHA-256 (hex). Durable when it returns. Raises OutOfResourcesError."""
        ...

    def get(self, sha256: str) -> bytes:
        """The object's bytes, checked. Raises ObjectMissingError when absent or damaged."""
        ...

    def file(self, sha256: str) -> AbstractContextManager[Path]:
        """The object as a file that stays while the block runs, not to be changed. Raises ObjectMissingError."""
        ...

    def holds(self, sha256: str) -> bool:
        """Whether the object is there."""
        ...


class FolderObjectStore:
    """Objects in `root`/ab/cd/SHA256, received files on their way in `root`/incoming (the same file system)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / "incoming"
        #: Folders that are known to be on the disk.
        self._synced: set[str] = set()
        try:
            self.incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutOfResourcesError(f"{root} cannot be made: {error.strerror}.") from error

    def path(self, sha256: str) -> Path:
        """Where the object lies, whether it is there or not."""
        return self.root / sha256[:2] / sha256[2:4] / sha256

    def adopt(self, source: Path, sha256: str | None = None) -> str:
        """Move a file of the store's own file system in; returns its SHA-256 (hex). Durable when it returns.

        `sha256` where the caller has computed it while the file was written. Raises OutOfResourcesError when the disk
        is full or read-only; `source` is then still there.
        """
        try:
            with source.open("rb") as stream:
                sha256 = sha256 or hashlib.file_digest(stream, "sha256").hexdigest()
                target = self.path(sha256)
                new = self._make_folder(target.parent)
                # A journalling file system writes the new folders along with the file: their own syncs find it done.
                os.fsync(stream.fileno())
            self._sync(new)
            source.rename(target)
            sync_folder(target.parent)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise OutOfResourcesError(f"{self.root}: {error.strerror}.") from error
            raise
        return sha256

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """An empty file to be filled and adopted within the block, and removed when it was not.

        Raises OutOfResourcesError, also in the place of what the block meets when the disk is full or read-only.
        """
        try:
            descriptor, name = tempfile.mkstemp(dir=self.incoming, prefix="put-")
            os.close(descriptor)
            try:
                yield Path(name)
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise OutOfResourcesError(f"{self.root}: {error.strerror}.") from error
            raise

    def put(self, content: bytes) -> str:
        """Keep `content`; returns its SHA-256 (hex). Durable when it returns. Raises OutOfResourcesError."""
        with self.draft() as path:
            path.write_bytes(content)
            return self.adopt(path, hashlib.sha256(content).hexdigest())

    def get(self, sha256: str) -> bytes:
        """The object's bytes, checked. Raises ObjectMissingError when absent or damaged."""
        try:
            content = self.path(sha256).read_bytes()
        except FileNotFoundError as error:
            raise ObjectMissingError(f"{sha256} is not in {self.root}.") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ObjectMissingError(f"{sha256} in {self.root} has other content: restore it from a backup.")
        return content

    @contextmanager
    def file(self, sha256: str) -> Iterator[Path]:
        """The object's file. Raises ObjectMissingError when absent; the bytes are not checked."""
        path = self.path(sha256)
        if not path.is_file():
            raise ObjectMissingError(f"{sha256} is not in {self.root}.")
        yield path

    def holds(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def __iter__(self) -> Iterator[str]:
        """SHA-256 of every object, in order."""
        for first in sorted(self.root.glob("??")):
            for second in sorted(first.glob("??")):
                yield from sorted(each.name for each in os.scandir(second))

    def remove_abandoned(self, seconds: float) -> None:
        """Remove files of that age in `incoming`: their association broke off, or their receiver died."""
        for path in self.incoming.iterdir():
            try:
                if time.time() - path.stat().st_mtime > seconds:
                    path.unlink()
            except FileNotFoundError:
                continue  # its receiver was quicker

    def _make_folder(self, folder: Path) -> list[Path]:
        """Make `folder`; returns it and what it is in, as far as not known to be on the disk."""
        levels = (folder, folder.parent, self.root)
        new = [level for level in levels if str(level) not in self._synced]
        if new:
            folder.mkdir(parents=True, exist_ok=True)
        return new

    def _sync(self, new: list[Path]) -> None:
        """Enter new folders durably; who moves a file into one syncs that one."""
        # Synced also when another thread has just made it: its sync may not be done yet. And known to be only when all
        # are, since a file in it may be promised from then on.
        for level in new:
            sync_folder(level.parent)
        self._synced.update(map(str, new))
