"""Can the object store be written, how fast, and for how many more studies?"""

import errno
import os
import pwd
import secrets
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from node.doctor.reach_ledger import LedgerUnavailableError, reach_ledger
from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok, warning
from node.storage.durable import sync_folder
from node.storage.object_store import FolderObjectStore
from schemas.settings import Settings
from schemas.tables import Inference, Instance, Result, ResultImage, Series, StoredObject, Study

GB = 1e9
_FAILED_BYTES, _WARNING_BYTES, _WARNING_PART = 1 * GB, 10 * GB, 0.10
#: Inodes fewer than this are as good as none: a study takes a dozen files.
_FAILED_INODES = 1000
_TEST_BYTES = 1 << 20
_ROUNDS = 3
#: An image is answered after several of these.
_SLOW_SECONDS = 0.1
#: Studies whose size is looked up for the estimate.
_SAMPLE = 50

_ADVICE = {
    errno.ENOSPC: "Free space, or give home a larger disk.",
    errno.EDQUOT: "Raise the quota of the user that CheXNode runs as.",
    errno.EROFS: "The file system is mounted read-only, often after a disk fault: look at the system's log (dmesg).",
    errno.EACCES: "Give the folder to the user that CheXNode runs as (chown).",
    errno.EPERM: "Give the folder to the user that CheXNode runs as (chown).",
    errno.EIO: "The disk is failing: look at the system's log (dmesg), and save what is on it.",
}


def disk_subject(settings: Settings) -> Subject:
    """Checks of the folder of the object store, or of where it will be made."""

    def examine(judge: Judge) -> Iterator[Verdict]:
        yield judge("disk.store", lambda: _store(settings.home / "objects"))
        yield judge("disk.space", lambda: _space(settings))

    return Subject("disk", ("store", "space"), examine)


def existing(folder: Path) -> Path:
    """`folder`, or the nearest folder above it that exists."""
    folder = folder.resolve()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def write_durably(folder: Path, content: bytes) -> float:
    """Write a file as the object store does (fsync, rename, fsync of the folder), remove it; seconds it took.

    Raises OSError.
    """
    draft = folder / f".chexnode-doctor-{secrets.token_hex(8)}.draft"
    target = draft.with_suffix(".test")
    started = time.monotonic()
    try:
        with draft.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.rename(target)
        sync_folder(folder)
        return time.monotonic() - started
    finally:
        draft.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def not_writable(folder: Path, error: OSError) -> Finding:
    """The finding where a test file could not be written."""
    return failed(
        f"{folder} cannot be written",
        _ADVICE.get(error.errno or 0, "Check the folder and the disk that it is on."),
        error.strerror or error,
    )


def _store(root: Path) -> Finding:
    folder = existing(root / "incoming" if root.is_dir() else root)
    try:
        seconds = statistics.median(write_durably(folder, os.urandom(_TEST_BYTES)) for _ in range(_ROUNDS))
    except OSError as error:
        return not_writable(folder, error)
    speed = f"1 MiB is on the disk in {seconds * 1e3:.1f} ms"
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        return warning(
            f"{folder} belongs to {_user(owner)}, and this is {_user(os.geteuid())}: {speed}, but perhaps not for it",
            f"Run the doctor as {_user(owner)} to be sure (sudo -u {_user(owner)} chexnode doctor).",
        )
    if seconds > _SLOW_SECONDS:
        return warning(
            f"{root} is slow: {speed}", "Put home on a faster disk: every image waits for it before it is answered."
        )
    if not root.is_dir():
        return ok(f"{root} is not there yet and can be made: {speed}")
    return ok(f"{root} can be written: {speed}")


def _space(settings: Settings) -> Finding:
    folder = existing(settings.home / "objects")
    disk = os.statvfs(folder)
    free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    found = f"{free / GB:.1f} GB free of {whole / GB:.0f} GB at {folder}{_studies(settings, free)}"
    to_do = "Free space, or give home a larger disk: a full one refuses every image (0xA700)."
    if free < _FAILED_BYTES:
        return failed(found, to_do)
    # Some file systems (Btrfs) have no fixed number of inodes and say 0.
    if disk.f_files and disk.f_favail < _FAILED_INODES:
        return failed(f"{found}; only {disk.f_favail} inodes free", "Remove small files, or make a file system anew.")
    if free < max(_WARNING_BYTES, _WARNING_PART * whole):
        return warning(found, to_do)
    if disk.f_files and disk.f_favail < _WARNING_PART * disk.f_files:
        return warning(
            f"{found}; {disk.f_favail} of {disk.f_files} inodes free",
            "Remove small files; each object of a study needs an inode.",
        )
    return ok(found)


def _studies(settings: Settings, free: int) -> str:
    """For how many studies the space is good, by the latest ones; "" when there is none to go by."""
    root = settings.home / "objects"
    if not (root / "incoming").is_dir():
        return ""
    try:
        with reach_ledger(settings) as ledger, ledger.read() as session:
            studies = session.scalars(select(Study.id).order_by(Study.id.desc()).limit(_SAMPLE)).all()
            stored = _stored(session, studies)
    except (LedgerUnavailableError, SQLAlchemyError):
        return ""
    store = FolderObjectStore(root)
    paths = [store.path(sha256) for sha256 in stored]
    size = sum(path.stat().st_size for path in paths if path.is_file())
    if not size:
        return ""
    mean = size / len(studies)
    return f", enough for about {_rounded(free / mean)} studies of {mean / 1e6:.1f} MB"


def _stored(session: Session, studies: object) -> set[str]:
    """Object store keys of everything that these studies hold: images, outputs of the model, result objects."""
    images = select(Instance.file_sha256).join(Series).where(Series.study_id.in_(studies))  # type: ignore[arg-type]
    results = select(Result.id).where(Result.study_id.in_(studies)).scalar_subquery()  # type: ignore[arg-type]
    objects = select(StoredObject.sha256).where(StoredObject.result_id.in_(results))
    outputs = (
        select(Inference.output_sha256)
        .join(ResultImage, ResultImage.inference_id == Inference.id)
        .where(ResultImage.result_id.in_(results))
    )
    return {key for query in (images, objects, outputs) for key in session.scalars(query) if key}


def _rounded(number: float) -> str:
    """Two figures: an estimate should look like one."""
    digits = max(0, len(str(int(number))) - 2)
    return f"{round(number, -digits):,.0f}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
