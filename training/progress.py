"""Progress of a training run: bars on a console, and somebody who is told of it (a row of the ledger).

Made by training/regeneration/regenerate.py and `chexnode train evaluate`; whatever takes long is given it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Watcher(Protocol):
    """Is told how far a run is. What it raises ends the run, which can be taken up again."""

    def stage_began(self, name: str) -> None: ...

    def advanced(self, done: float, total: float | None, remaining_seconds: float | None) -> None:
        """Of what is under way in the present stage; called often."""


class WatchedProgress(Progress):
    """Bars whose every step a watcher is told of."""

    def __init__(self, *columns: Any, watcher: Watcher | None, console: Console) -> None:
        super().__init__(*columns, console=console)
        self._watcher = watcher

    def stage_began(self, name: str) -> None:
        if self._watcher is not None:
            self._watcher.stage_began(name)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        if self._watcher is not None:
            task = self._tasks[task_id]
            self._watcher.advanced(task.completed, task.total, task.time_remaining)


@contextmanager
def training_progress(console: Console, watcher: Watcher | None = None) -> Iterator[WatchedProgress]:
    """Progress bars with counts, elapsed and remaining time."""
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn())
    made = WatchedProgress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), watcher=watcher, console=console)
    with made as progress:
        yield progress
