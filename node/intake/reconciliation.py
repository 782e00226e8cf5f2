"""Start-up reconciliation of object store and ledger: a file without row, a row without file.

A node may have died between the rename that stored a file and the commit that recorded it. The sender was not told
"success" then, but the bytes are good: they are recorded as if they had come now.
"""

import time
from dataclasses import dataclass

import structlog
from sqlalchemy import Executable, null, select, union_all

from node.intake.received import read_received
from node.intake.reception import ReceptionDesk
from node.ledger.ledger import Ledger
from node.storage.object_store import FolderObjectStore, ObjectStore
from schemas.change_tables import Removal
from schemas.errors import IdentityError, NotDicomError, StoreUnavailableError
from schemas.identity import MANUFACTURER
from schemas.tables import Inference, Instance, Picture, Reception, StoredObject

log = structlog.get_logger()

#: Calling AE title of a reception that the reconciliation recorded; no peer can have a title in brackets configured
#: by accident.
RECONCILED = "[reconciled]"
#: Files of this age in `incoming` belong to a receiver that is dead.
ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True)
class Reconciliation:
    """What was found and done."""

    recorded: int
    missing: list[str]


def reconcile(
    ledger: Ledger, store: FolderObjectStore, desk: ReceptionDesk, everywhere: ObjectStore | None = None
) -> Reconciliation:
    """Record files without rows; report instances whose file is gone. Deletes only torn files of dead receivers.

    `everywhere` where other hosts may hold what this one does not; of one that does not answer nothing is said.
    """
    store.remove_abandoned(ABANDONED_SECONDS)
    found = _compare(ledger, store)
    recorded = 0
    for sha256 in found.without_row:
        try:
            recorded += _record(ledger, store, desk, sha256)
        except Exception:
            log.exception("a file without row could not be recorded", file=sha256)
    missing = [uid for uid, sha256 in found.without_file.items() if not (everywhere and _held(everywhere, sha256))]
    desk.release_corrected()
    for uid in missing:
        log.error("the object store has lost the file of an instance; send it again", instance=uid)
    return Reconciliation(recorded, missing)


@dataclass(frozen=True)
class _Differences:
    #: Keys of files.
    without_row: list[str]
    #: SOP Instance UID -> key of the file that is not here.
    without_file: dict[str, str]


def _compare(ledger: Ledger, store: FolderObjectStore) -> _Differences:
    """Go through files and rows side by side, both in the order of their keys: there may be millions of either."""
    found = _Differences([], {})
    files, last = iter(store), ""
    file = next(files, None)
    with ledger.read() as session:
        for sha256, uid in session.execute(_keys()):
            while file is not None and file < sha256:
                if file != last:
                    found.without_row.append(file)
                file = next(files, None)
            if uid is not None and file != sha256:
                found.without_file[uid] = sha256
            last = sha256
    while file is not None:
        if file != last:
            found.without_row.append(file)
        file = next(files, None)
    return found


def _keys() -> Executable:
    """Every key that the ledger knows, in order; of an instance whose file has to be there with its UID."""
    columns = (Reception.file_sha256, Inference.output_sha256, StoredObject.sha256, Picture.sha256, Removal.sha256)
    known = [select(column, null()).where(column.is_not(None)) for column in columns]
    kept = select(Instance.file_sha256, Instance.sop_instance_uid).where(Instance.removed_at.is_(None))
    return union_all(kept, *known).order_by("file_sha256").execution_options(yield_per=10_000)


def _held(everywhere: ObjectStore, sha256: str) -> bool:
    try:
        return everywhere.holds(sha256)
    except StoreUnavailableError as error:
        log.warning("not known whether a file is there", file=sha256, error=error)
        return True


def _record(ledger: Ledger, store: FolderObjectStore, desk: ReceptionDesk, sha256: str) -> bool:
    """Record the file when it is a received object; model outputs and results of a lost commit stay unreferenced."""
    try:
        received = read_received(store.path(sha256))
    except (NotDicomError, IdentityError):
        return False
    if received.header.get("Manufacturer") == MANUFACTURER:
        return False
    with ledger.read() as session:
        instance = session.scalar(select(Instance).where(Instance.sop_instance_uid == received.sop_instance_uid))
    if instance is not None and instance.received_at >= store.path(sha256).stat().st_mtime:
        return False  # it was refused in its time, and a later version has come since
    desk.record(received, sha256, RECONCILED, time.monotonic())
    return True
