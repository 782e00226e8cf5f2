"""Senders as departments have them: each keeps what was not acknowledged and sends it again until it is."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE, build_context

from tests.support.live_node import CALLING

_PAUSE_SECONDS = 0.2
#: Of one attempt: a receiver that is frozen does not answer, and the sender tries again.
_ANSWER_SECONDS = 20.0


class Sender(threading.Thread):
    """One association after the other until every file was answered with success.

    Parameters
    ----------
    times
        How often each file is sent to success.
    abort
        Break the association off after the answer instead of releasing it.
    """

    def __init__(self, port: int, files: Sequence[Path], *, times: int = 1, abort: bool = False) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._abort = abort
        #: How often each file is still to be sent, of those that are.
        self._open = dict.fromkeys(files, times)
        self._given_up = threading.Event()
        #: Files that were answered with success at least once.
        self.acknowledged: set[Path] = set()
        #: Every other status that came, None for no answer.
        self.refusals: list[int | None] = []
        self.start()

    def run(self) -> None:
        while self._open and not self._given_up.is_set():
            if not self._once():
                time.sleep(_PAUSE_SECONDS)

    def finish(self, seconds: float) -> bool:
        """Wait until everything was acknowledged; False when it was not in this time."""
        self.join(seconds)
        self._given_up.set()
        return not self._open

    def _once(self) -> bool:
        datasets = {path: dcmread(path) for path in self._open}
        entity = AE(ae_title=CALLING)
        entity.requested_contexts = [
            build_context(*kind)
            for kind in {(each.SOPClassUID, each.file_meta.TransferSyntaxUID) for each in datasets.values()}
        ]
        entity.connection_timeout, entity.acse_timeout, entity.dimse_timeout = 2.0, 5.0, _ANSWER_SECONDS
        association = entity.associate("127.0.0.1", self._port, ae_title="CHEXNODE", max_pdu=128 * 1024)
        if not association.is_established:
            self.refusals.append(None)
            return False
        try:
            for path, dataset in datasets.items():
                answer = association.send_c_store(dataset)
                status = int(answer.Status) if "Status" in answer else None
                if status != 0:
                    self.refusals.append(status)
                    continue
                self.acknowledged.add(path)
                self._open[path] -= 1
                if not self._open[path]:
                    del self._open[path]
        except (RuntimeError, ValueError, OSError):
            return False  # the association broke off between two objects
        finally:
            if association.is_established:
                association.abort() if self._abort else association.release()
        return True
