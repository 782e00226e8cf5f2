"""How the node is, as of a few seconds ago: for whoever asks often (Prometheus, probes, every page)."""

import threading
import time

from node.monitoring.alerts import Situation, examine
from schemas.settings import Settings

_LOOK_SECONDS = 5.0


class Watch:
    """Looks at the node when it is asked and has not looked lately."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._looking = threading.Lock()
        self._looked_at = float("-inf")
        self._situation: Situation | None = None

    def look(self) -> Situation:
        """The situation, at most a few seconds old. Blocks the first who asks; meanwhile others get the one before."""
        if self._situation is not None and not self._is_old():
            return self._situation
        # While there is none yet, everybody waits for it.
        if self._looking.acquire(blocking=self._situation is None):
            try:
                if self._is_old():
                    self._situation = examine(self._settings)
                    self._looked_at = time.monotonic()
            finally:
                self._looking.release()
        assert self._situation is not None
        return self._situation

    def peek(self) -> Situation | None:
        """The situation as it was looked at last; when that is a while ago, somebody goes and looks. Never blocks."""
        if self._is_old() and not self._looking.locked():
            threading.Thread(target=self.look, name="watch", daemon=True).start()
        return self._situation

    def _is_old(self) -> bool:
        return time.monotonic() - self._looked_at >= _LOOK_SECONDS
