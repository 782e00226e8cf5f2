"""Several receiver processes on one port (`dicom.receivers`): the kernel gives each new connection to one of them.

Started and kept running by the node process, which alone sweeps and reconciles. One that dies takes its own
associations along and nobody else's.
"""

import threading
import time

import structlog

from node.ledger.ledger import Ledger
from node.monitoring.presence import present_processes
from node.supervisor import Supervisor, chexnode_part
from schemas.errors import ChexnodeError
from schemas.settings import Settings

log = structlog.get_logger()

#: Role under which a receiver process is listed.
RECEIVER = "receiver"
_CHECK_SECONDS = 0.2
_START_SECONDS = 120.0


class ReceiverError(ChexnodeError):
    """The receiver processes do not start."""


class Receivers:
    """The receiver processes of a node."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._ledger = ledger
        # Not needed, as the supervisor has it: while one does not come up the others go on.
        parts = [
            chexnode_part(f"receiver-{number}", "node", "--receiver", needed=False)
            for number in range(1, settings.dicom.receivers + 1)
        ]
        self._supervisor = Supervisor(parts, settings.home / "logs")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name="receivers", daemon=True)

    def start(self) -> None:
        """Start them all, and wait until they listen. Raises ReceiverError when none does."""
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while (listening := self._listening()) < len(self._supervisor.parts):
            if time.monotonic() > deadline:
                if listening:
                    log.error("some receivers do not start; their logs say why", listening=listening)
                    return
                self.stop()
                raise ReceiverError(f"Their logs say why: {self._supervisor.log_path(self._supervisor.parts[0])}.")
            time.sleep(_CHECK_SECONDS)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _keep_running(self) -> None:
        """All of it in one thread: with the thread that started them they would end (prctl(2), PR_SET_PDEATHSIG)."""
        self._supervisor.start()
        while not self._stopped.wait(_CHECK_SECONDS):
            self._supervisor.check()
        self._supervisor.stop()

    def _listening(self) -> int:
        own = {part.process.pid for part in self._supervisor.parts if part.process is not None}
        with self._ledger.read() as session:
            present = {each.process_id for each in present_processes(session) if each.role == RECEIVER}
        return len(own & present)
