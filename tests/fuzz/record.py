"""Records what DCMTK sends: `python -m tests.fuzz.record` makes the corpus's recordings anew.

A relay stands between storescu or echoscu and a node of its own; the bytes of the sender are kept as they came.
"""

import socket
import tempfile
import threading
from pathlib import Path

import numpy as np
from pydicom import Dataset

from tests.support.dicom_tools import echoscu, storescu
from tests.support.live_node import LiveNode
from tests.support.phantoms import write_phantom
from tests.support.processes import free_port

_CORPUS = Path(__file__).parent / "corpus"


class Relay:
    """Passes one connection on and keeps what its maker sent."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self._to = port
        self.sent = bytearray()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> bytes:
        self._thread.join()
        return bytes(self.sent)

    def _run(self) -> None:
        near, _ = self._listener.accept()
        self._listener.close()
        with near, socket.create_connection(("127.0.0.1", self._to)) as far:
            back = threading.Thread(target=self._back, args=(far, near))
            back.start()
            while part := near.recv(65536):
                self.sent += part
                far.sendall(part)
            far.shutdown(socket.SHUT_WR)
            back.join()

    def _back(self, far: socket.socket, near: socket.socket) -> None:
        try:
            while part := far.recv(65536):
                near.sendall(part)
        except OSError:
            pass  # the sender has all that it wants


def main() -> None:
    """Record."""

    def small(dataset: Dataset) -> None:
        """8 x 8 pixels: the pixels themselves are not what is mutated."""
        dataset.Rows = dataset.Columns = 8
        dataset.PixelData = np.zeros((8, 8), "<u2").tobytes()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_phantom(folder / "a.dcm", change=small)
        node = LiveNode(folder / "home", "", "", "")
        try:
            node.start("node")
            relay = Relay(node.port)
            assert echoscu(relay.port) == 0
            (_CORPUS / "echoscu.pdus").write_bytes(relay.join())
            # -R: propose only what is needed; without, DCMTK proposes all that it knows.
            ways = {
                "storescu": [],
                "storescu-required": ["-R"],
                "storescu-implicit": ["-R", "-xi"],
            }
            for label, options in ways.items():
                relay = Relay(node.port)
                assert storescu(relay.port, [folder / "a.dcm"], options).returncode == 0
                (_CORPUS / f"{label}.pdus").write_bytes(relay.join())
        finally:
            node.stop()


if __name__ == "__main__":
    main()
