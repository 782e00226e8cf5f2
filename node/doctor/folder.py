"""Can a folder destination be written?"""

import os
import shutil
from collections.abc import Iterator

from node.doctor.disk import GB, existing, not_writable, write_durably
from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok, warning
from schemas.settings import FolderDestination

#: A result takes about a megabyte.
_LITTLE_BYTES = 1 * GB


def folder_subject(destination: FolderDestination, *, store: bool) -> Subject:
    """Checks of a folder destination; without `store` nothing is written into it."""
    name = f"destination.{destination.name}"

    def examine(judge: Judge) -> Iterator[Verdict]:
        yield judge(f"{name}.folder", lambda: _folder(destination, store))

    return Subject(name, ("folder",), examine)


def _folder(destination: FolderDestination, store: bool) -> Finding:
    path = destination.path
    if path.exists() and not path.is_dir():
        return failed(f"{path} is no folder", f"Move it away, or correct path of destination {destination.name}.")
    folder = existing(path)
    missing = "" if path.is_dir() else f"{path} is not there yet; "
    if store:
        try:
            seconds = write_durably(folder, b"chexnode doctor")
        except OSError as error:
            return not_writable(folder, error)
        found = f"{missing}a test file in {folder} was on the disk in {seconds * 1e3:.1f} ms and is removed"
    elif not os.access(folder, os.W_OK | os.X_OK):
        return failed(
            f"{missing}{folder} is not writable for this user", "Give it to the user that CheXNode runs as (chown)."
        )
    else:
        found = f"{missing}{folder} is writable for this user"
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_BYTES:
        return warning(f"{found}; {free / GB:.2f} GB free", "Free space there: results wait when it is full.")
    return ok(f"{found}; {free / GB:.1f} GB free")
