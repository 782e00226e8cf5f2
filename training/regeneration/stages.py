"""Stages of making a bundle, each kept under the content of what it is made from: nothing is made twice.

Called by regenerate.py. One that was killed goes on with what it had; one that is done is found again.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.markup import escape

from node.storage.durable import sync_folder
from training.progress import WatchedProgress
from training.regeneration.code_digest import code_digest

_DOCUMENT = "stage.json"
#: Characters of a key in the name of its folder; the document holds all 64.
_SHORT = 16


class StageDocument(BaseModel):
    """stage.json: what a stage was made from, and when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    #: SHA-256 over everything below it.
    key: str
    #: Keys of the stages that it was made from, in their order.
    inputs: list[str]
    #: Its part of the recipe, or whatever else decides it.
    part: Any
    #: SHA-256 over the source of the code that makes it (training/regeneration/code_digest.py).
    code: str
    finished: datetime
    #: Of all attempts together, as far as a killed one got to say.
    seconds: float


@dataclass(frozen=True)
class Stage:
    """A stage that is done."""

    document: StageDocument
    folder: Path
    #: It was there already.
    found: bool


class Stages:
    """The stages of one run in the folder `cache`/stages."""

    def __init__(self, cache: Path, progress: WatchedProgress, expected: int) -> None:
        self._root = cache / "stages"
        self._root.mkdir(parents=True, exist_ok=True)
        self._progress = progress
        self._task = progress.add_task("Stages", total=expected)
        #: In their order, for the report.
        self.done: list[Stage] = []

    def make(
        self,
        name: str,
        work: Callable[[Path], None],
        *,
        inputs: Sequence[Stage] = (),
        part: Any = None,
        code: Sequence[str],
    ) -> Stage:
        """The stage `name`, found or made by `work`, which writes all that it makes into the folder that it is given.

        Parameters
        ----------
        inputs : what `work` reads
        part : of the recipe, as JSON or pydantic documents; nothing else may decide what `work` makes
        code : modules or packages whose source decides it

        `work` may find what an earlier attempt left, and should go on with it.
        """
        self._progress.stage_began(name)
        keys = [each.document.key for each in inputs]
        plain = _plain(part)
        digest = code_digest(code)
        key = hashlib.sha256(json.dumps([name, keys, plain, digest], sort_keys=True).encode()).hexdigest()
        folder = self._root / f"{name}-{key[:_SHORT]}"
        with _only_one(
            folder.with_name(f".{folder.name}.lock"), lambda: self._say(name, "another run makes it; waiting")
        ):
            document = _read(folder, key)
            found = document is not None
            if document is None:
                seconds = self._work(folder, work)
                document = StageDocument(
                    name=name,
                    key=key,
                    inputs=keys,
                    part=plain,
                    code=digest,
                    finished=datetime.now(UTC),
                    seconds=round(seconds, 1),
                )
                _finish(folder, document)
        stage = Stage(document, folder, found)
        self.done.append(stage)
        self._say(name, f"{'found' if found else f'done in {_duration(document.seconds)}'}: {folder}")
        self._progress.advance(self._task)
        return stage

    def skip(self, name: str, reason: str) -> None:
        """Say that a stage is left out, and why."""
        self._say(name, f"skipped: {reason}")
        self._progress.advance(self._task)

    def _say(self, name: str, what: str) -> None:
        self._progress.console.print(f"[bold]{name}[/] {escape(what)}", soft_wrap=True, highlight=False)

    @staticmethod
    def _work(folder: Path, work: Callable[[Path], None]) -> float:
        partial = _partial(folder)
        partial.mkdir(exist_ok=True)
        clock = partial / ".seconds"
        earlier = float(clock.read_text() or 0) if clock.exists() else 0.0
        started = time.monotonic()
        try:
            work(partial)
        finally:
            spent = earlier + time.monotonic() - started
            clock.write_text(f"{spent:.1f}")
        clock.unlink()
        return spent


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + ".partial")


def _read(folder: Path, key: str) -> StageDocument | None:
    """The document of a finished stage; None when it is not there, or when its folder is of another key."""
    try:
        document = StageDocument.model_validate_json((folder / _DOCUMENT).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return document if document.key == key else None


def _finish(folder: Path, document: StageDocument) -> None:
    """On the disk first, then by its name: a stage that has its name is whole, whatever was killed when."""
    partial = _partial(folder)
    (partial / _DOCUMENT).write_text(document.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    sync_folder(partial)
    if folder.exists():
        # Damaged, or of a key that begins the same: kept apart, since somebody may want to look at it.
        folder.rename(folder.with_name(f"{folder.name}.replaced-{time.time_ns()}"))
    partial.rename(folder)
    sync_folder(folder.parent)


@contextmanager
def _only_one(lock: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Two runs that need the same stage make it once; the lock dies with its process."""
    with lock.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _plain(part: Any) -> Any:
    if isinstance(part, BaseModel):
        return part.model_dump(mode="json")
    if isinstance(part, list | tuple):
        return [_plain(each) for each in part]
    return part


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
