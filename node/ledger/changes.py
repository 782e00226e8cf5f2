"""Changes of the worklist as they are committed, whichever process made them, on both databases."""

from sqlalchemy import select

from node.ledger.ledger import Ledger, now
from schemas.tables import Study

#: A change is seen when its transaction commits, which may be later than the time that it wrote: looked back so far.
_LOOK_BACK_SECONDS = 10.0


class Changes:
    """Tells which studies changed since it was last asked; the first time, which changed within the last seconds.

    So whoever looked at the ledger just before misses nothing.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: set[tuple[str, float]] = set()

    def take(self) -> set[str]:
        """Study Instance UIDs of the studies that changed since the last call."""
        latest = self._latest()
        changed = {uid for uid, _ in latest - self._seen}
        self._seen = latest
        return changed

    def _latest(self) -> set[tuple[str, float]]:
        with self._ledger.read() as session:
            rows = session.execute(
                select(Study.study_instance_uid, Study.changed_at).where(Study.changed_at > now() - _LOOK_BACK_SECONDS)
            )
            return {(uid, changed_at) for uid, changed_at in rows}
