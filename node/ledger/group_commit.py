"""Group commit: changes of the ledger that come at the same time share one transaction, and so one fsync.

Used by reception, where every association waits for a commit of its own before it may answer.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy.orm import Session

from node.ledger.ledger import Ledger

log = structlog.get_logger()

T = TypeVar("T")

#: A transaction holds its locks no longer than this many changes take.
_LARGEST_GROUP = 32


@dataclass(eq=False)
class _Change:
    order: str
    make: Callable[[Session], Any]
    done: bool = False
    result: Any = None
    error: BaseException | None = None


class GroupCommit:
    """Writes of one process, from any of its threads.

    There is no thread of its own and no waiting for company: whoever finds nobody committing commits for all who came
    meanwhile, and those who come while it does are the next group.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[_Change] = []
        self._list_lock = threading.Lock()
        self._committing = threading.Lock()

    def write(self, change: Callable[[Session], T], order: str = "") -> T:
        """As Ledger.write: returns when `change` is committed durably, and raises what it raises.

        A change that fails takes no other one of its group along. Those of one group are made in the order of `order`
        (the study's UID): two processes that lock the same studies do not wait for each other.
        """
        mine = _Change(order, change)
        with self._list_lock:
            self._waiting.append(mine)
        while not mine.done:
            with self._committing:
                # The one before may have committed it.
                if not mine.done:
                    self._commit(self._next_group())
        if mine.error is not None:
            raise mine.error
        result: T = mine.result
        return result

    def _next_group(self) -> list[_Change]:
        with self._list_lock:
            group = self._waiting[:_LARGEST_GROUP]
            del self._waiting[:_LARGEST_GROUP]
        return sorted(group, key=lambda each: each.order)

    def _commit(self, group: list[_Change]) -> None:
        if len(group) > 1 and self._commit_together(group):
            return
        for each in group:
            try:
                each.result = self._ledger.write(each.make)
            except BaseException as error:  # noqa: BLE001 - it is the caller's to handle, in the caller's thread
                each.error = error
            each.done = True

    def _commit_together(self, group: list[_Change]) -> bool:
        """Whether it went well; if not, nothing is committed, and one by one will tell whose fault it was."""
        try:
            results = self._ledger.write(lambda session: [_make(each, session) for each in group])
        except Exception as error:  # noqa: BLE001 - each change raises what it likes
            log.info("changes are committed one by one", changes=len(group), why=error)
            return False
        for each, result in zip(group, results, strict=True):
            each.result, each.done = result, True
        return True


def _make(change: _Change, session: Session) -> Any:
    result = change.make(session)
    # The next one finds what a transaction of its own would find: rows, and no objects.
    session.flush()
    session.expunge_all()
    return result
