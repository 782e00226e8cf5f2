"""The stream of changes (server-sent events, HTML standard 9.2): which studies changed, as soon as it is committed.

One thread asks the ledger, however many pages listen, and nobody asks while nobody listens.
"""

import json
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from time import monotonic

import anyio
import structlog
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import StreamingResponse

from node.ledger.changes import Changes
from node.ledger.ledger import Ledger
from node.page.context import page_of
from node.page.sessions import still_valid
from node.page.visitor import Reader

log = structlog.get_logger()

routes = APIRouter()

_ASK_SECONDS = 0.2
#: A comment line now and then keeps proxies from closing the stream, and finds out who has gone.
_ALIVE_SECONDS = 15.0
#: How often a listener is asked whether its login still holds.
_VALID_SECONDS = 30.0


class Watcher:
    """Asks the ledger for changes while anybody listens, and tells every listener."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._listeners: set[queue.SimpleQueue[set[str]]] = set()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._watch, name="changes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    @property
    def stopped(self) -> bool:
        return self._stopped

    @contextmanager
    def listen(self) -> Iterator["queue.SimpleQueue[set[str]]"]:
        """A queue of sets of Study Instance UIDs, fed while the block runs."""
        told: queue.SimpleQueue[set[str]] = queue.SimpleQueue()
        with self._changed:
            self._listeners.add(told)
            self._changed.notify()
        try:
            yield told
        finally:
            with self._changed:
                self._listeners.discard(told)

    def _watch(self) -> None:
        changes: Changes | None = None
        while True:
            with self._changed:
                if not self._listeners:
                    changes = None
                    self._changed.wait_for(lambda: self._listeners or self._stopped)
                self._changed.wait_for(lambda: self._stopped, timeout=_ASK_SECONDS)
                if self._stopped:
                    return
                listeners = list(self._listeners)
            try:
                if changes is None:
                    changes = Changes(self._ledger)
                uids = changes.take()
            except SQLAlchemyError as error:
                log.warning("ledger does not answer, trying again", task="changes", error=error)
                continue
            if uids:
                for told in listeners:
                    told.put(uids)


@routes.get("/events")
async def events(request: Request, visitor: Reader) -> StreamingResponse:
    """Event "changed" with a JSON list of Study Instance UIDs; the first, empty one says that the stream is open."""
    return StreamingResponse(_stream(request, visitor), media_type="text/event-stream")


async def _stream(request: Request, visitor: Reader) -> AsyncIterator[str]:
    page = page_of(request)
    watcher: Watcher = request.app.state.watcher
    alive = valid = monotonic()
    with watcher.listen() as told:
        # What changed between the page and this stream was not told: the page asks anew.
        yield _event(set())
        while not watcher.stopped:
            await anyio.sleep(_ASK_SECONDS / 4)
            uids: set[str] = set()
            while not told.empty():
                uids |= told.get()
            if uids:
                yield _event(uids)
            if monotonic() - alive > _ALIVE_SECONDS:
                alive = monotonic()
                yield ": alive\n\n"
            if monotonic() - valid > _VALID_SECONDS:
                valid = monotonic()
                if not await run_sync(still_valid, page, visitor):
                    return


def _event(uids: set[str]) -> str:
    return f"event: changed\ndata: {json.dumps(sorted(uids))}\n\n"
