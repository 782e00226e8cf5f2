"""Storage SCPs of others as destinations: DCMTK's storescp, and pynetdicom with the answers that a test wants."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.presentation import PresentationContext

from tests.support.peers import require
from tests.support.processes import Running, free_port, wait_for


class Storescp:
    """DCMTK's storescp with its own folder and port; files are as they came."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.port = free_port()
        command = [require("storescp"), "-v", "+B", "-od", str(folder), "-aet", "PACS", *options, str(self.port)]
        self._running = Running(command, folder.with_suffix(".log"))
        wait_for("storescp listens", lambda: listens(self.port))

    @property
    def said(self) -> str:
        return self._running.output

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def stop(self) -> None:
        self._running.stop()


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[Storescp]:
    server = Storescp(folder, *options)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def answering(
    contexts: Sequence[PresentationContext], handlers: Sequence[tuple[Any, Callable[[Any], Any]]]
) -> Iterator[int]:
    """A pynetdicom SCP with these contexts and handlers; gives its port."""
    entity = AE(ae_title="PACS")
    entity.supported_contexts = list(contexts)
    port = free_port()
    server: Any = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=list(handlers))
    try:
        yield port
    finally:
        server.shutdown()


def status(code: int, comment: str = "") -> Dataset:
    """The answer of a handler."""
    answer = Dataset()
    answer.Status = code
    if comment:
        answer.ErrorComment = comment
    return answer


def listens(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
