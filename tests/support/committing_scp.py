"""A Storage and Storage Commitment SCP as a process of its own (pynetdicom): reports on the association of the request.

Run by tests: python -m tests.support.committing_scp PORT [SOP_INSTANCE_UID that it claims not to hold]
"""

import sys
import threading
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

_REFUSED: set[str] = set()
_held: set[str] = set()


def _on_store(event: Any) -> int:
    _held.add(str(event.request.AffectedSOPInstanceUID))
    return 0


def _on_action(event: Any) -> tuple[int, None]:
    request = event.action_information
    report = Dataset()
    report.TransactionUID = request.TransactionUID
    items = list(request.ReferencedSOPSequence)
    held = [item for item in items if item.ReferencedSOPInstanceUID in _held - _REFUSED]
    missing = [item for item in items if item.ReferencedSOPInstanceUID not in _held - _REFUSED]
    for item in missing:
        item.FailureReason = 0x0112
        # What it claims not to hold it holds when it comes again.
        _REFUSED.discard(str(item.ReferencedSOPInstanceUID))
        _held.discard(str(item.ReferencedSOPInstanceUID))
    if held:
        report.ReferencedSOPSequence = held
    if missing:
        report.FailedSOPSequence = missing
    # From another thread: the N-ACTION has to be answered first.
    threading.Thread(target=_report, args=(event.assoc, report, 2 if missing else 1)).start()
    return 0, None


def _report(association: Any, report: Dataset, event_type: int) -> None:
    association.send_n_event_report(report, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)


def main() -> None:
    _REFUSED.update(sys.argv[2:])
    entity = AE(ae_title="PACS")
    entity.supported_contexts = AllStoragePresentationContexts
    entity.add_supported_context(StorageCommitmentPushModel)
    handlers: Any = [(evt.EVT_C_STORE, _on_store), (evt.EVT_N_ACTION, _on_action)]
    entity.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=handlers)


if __name__ == "__main__":
    main()
