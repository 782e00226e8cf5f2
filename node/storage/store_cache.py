"""Copies of other hosts' objects: files for those who read by path, in a folder that stays below a limit.

Used by node/storage/http_store.py. Several processes of a host may share the folder, and any of them may die at any
moment.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from schemas.errors import OutOfResourcesError

#: A name in `held` of this age belongs to a process that is dead.
_ABANDONED_SECONDS = 3600.0


class FileCache:
    """Files by their SHA-256; the least recently used go first.

    Parameters
    ----------
    folder
        Made when it is needed. Whole copies in `folder`/whole, what is read or fetched at the moment in `folder`/held:
        a hard link, so that a copy may go while somebody reads it.
    limit_bytes
        Most that whole copies take together.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._whole = folder / "whole"
        self._held = folder / "held"
        self._limit = limit_bytes

    @contextmanager
    def file(self, sha256: str, fetch: Callable[[Path], None]) -> Iterator[Path]:
        """The file, fetched when there is no copy; it stays while the block runs.

        `fetch` writes the object to a path, or raises; what it raises goes further. Raises OutOfResourcesError when
        there is no room.
        """
        mine = self._held / secrets.token_hex(16)
        try:
            try:
                if not self._take(sha256, mine):
                    fetch(mine)
                    self._keep(sha256, mine)
            except OSError as error:
                raise OutOfResourcesError(f"Copies of objects in {self._whole}: {error.strerror}.") from error
            yield mine
        finally:
            mine.unlink(missing_ok=True)

    def _take(self, sha256: str, mine: Path) -> bool:
        """Link the copy to `mine`; False when there is none."""
        for folder in (self._whole, self._held):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self._whole / sha256, mine)
            os.utime(mine)  # used now: the copy's time too, since it is the same file
        except FileNotFoundError:
            return False
        return True

    def _keep(self, sha256: str, mine: Path) -> None:
        with suppress(FileExistsError):  # another thread or process has fetched it too
            os.link(mine, self._whole / sha256)
        self._make_room()

    def _make_room(self) -> None:
        copies = []
        for path in self._whole.iterdir():
            with suppress(FileNotFoundError):
                found = path.stat()
                copies.append((found.st_mtime, found.st_size, path))
        excess = sum(size for _, size, _ in copies) - self._limit
        for _, size, path in sorted(copies):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size
        for path in self._held.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()
