"""The files of registered bundles: HOME/bundles/DIGEST, never changed once they lie there.

Whatever moment a process is killed at, a folder of that name is whole. Used by the registry.
"""

import os
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from node.storage.durable import sync_folder
from node.storage.http_store import HttpObjectStore
from schemas.bundle import bundle_digest
from schemas.errors import BundleError, ObjectMissingError, OutOfResourcesError, StoreUnavailableError
from schemas.tuning import tuning_file

#: A copy of this age that is not finished belongs to a process that is dead.
_ABANDONED_SECONDS = 3600.0


def bundle_path(home: Path, digest: str) -> Path:
    """Where the bundle of this digest lies, whether it is there or not."""
    return home / "bundles" / digest


def keep_files(home: Path, folder: Path) -> str:
    """Copy the bundle at `folder`, with its tuning record, into `home`; returns its digest (hex).

    A folder that is there already is checked, and replaced when it is damaged.
    Raises OutOfResourcesError, or BundleError when the source cannot be read.
    """
    root = home / "bundles"
    draft = root / f"incoming-{secrets.token_hex(8)}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root)
        digest = bundle_digest(folder)
        target = bundle_path(home, digest)
        if folder.resolve() != target.resolve():
            if not _is_whole(target, digest):
                _copy(folder, draft)
                if bundle_digest(draft) != digest:
                    raise BundleError(f"{folder} was changed while it was copied: try again.")
                _put_in_place(draft, target)
            _keep_tuning(tuning_file(folder), tuning_file(target))
        sync_folder(root)
    except OSError as error:
        raise OutOfResourcesError(f"{error.filename or root}: {error.strerror}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return digest


def fetch_files(home: Path, digest: str, stores: Sequence[HttpObjectStore]) -> Path:
    """Where the bundle lies in `home`, fetched from another host when it is not there yet.

    Raises BundleError when no host has it, StoreUnavailableError when one that may have it does not answer, or
    OutOfResourcesError.
    """
    target = bundle_path(home, digest)
    away: StoreUnavailableError | None = None
    for store in [] if target.is_dir() else stores:
        draft = home / "bundles" / f"incoming-{secrets.token_hex(8)}"
        try:
            draft.mkdir(parents=True)
            store.fetch_bundle(digest, draft)
            if bundle_digest(draft) == digest:
                _put_in_place(draft, target)
                return target
        except ObjectMissingError:
            continue
        except StoreUnavailableError as error:
            away = error
        except OSError as error:
            raise OutOfResourcesError(f"{error.filename or draft}: {error.strerror}.") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    if away is not None:
        raise away
    if stores and not target.is_dir():
        raise BundleError(
            f"{digest[:12]} is at none of {', '.join(store.url for store in stores)}: run chexnode bundle activate on "
            "one of these hosts."
        )
    return target


def _is_whole(target: Path, digest: str) -> bool:
    return target.is_dir() and bundle_digest(target) == digest


def _copy(source: Path, draft: Path) -> None:
    for path in sorted(source.rglob("*")):
        copy = draft / path.relative_to(source)
        if path.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            _durable_copy(path, copy)
    for directory in [draft, *(path for path in draft.rglob("*") if path.is_dir())]:
        sync_folder(directory)


def _durable_copy(source: Path, copy: Path) -> None:
    # Not a hard link: whoever writes into the source in its place would write into what is served.
    shutil.copyfile(source, copy)
    with copy.open("rb") as stream:
        os.fsync(stream.fileno())


def _put_in_place(draft: Path, target: Path) -> None:
    """Rename; of two processes that keep the same bundle the second finds the first one's."""
    if target.exists():
        target.rename(draft.with_name(f"{draft.name}-damaged"))
    try:
        draft.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _keep_tuning(source: Path, target: Path) -> None:
    if not source.is_file() or (target.is_file() and target.stat().st_mtime >= source.stat().st_mtime):
        return  # there is none, or the bundle was tuned anew where it lies now
    draft = target.with_name(f"incoming-{secrets.token_hex(8)}")
    draft.write_bytes(source.read_bytes())
    with draft.open("rb") as stream:
        os.fsync(stream.fileno())
    draft.replace(target)


def _remove_abandoned(root: Path) -> None:
    for path in root.glob("incoming-*"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue  # somebody else was quicker
