"""Running checks in tests, and the peers that they need: configured Orthancs, and one that never answers."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from node.delivery.orthanc import TimedOrthanc
from node.doctor.checks import run_checks
from node.doctor.verdict import Status, Verdict
from node.local_orthanc import find_orthanc, orthanc_part
from schemas.errors import SettingsError
from schemas.settings import OrthancDestination, Settings
from tests.support.processes import Running, free_port, wait_for


def examine(settings: Settings | SettingsError, *only: str, store: bool = True) -> dict[str, Verdict]:
    """The verdicts of these checks by name."""
    return {verdict.name: verdict for verdict in run_checks(settings, store=store, only=only)}


def states(verdicts: dict[str, Verdict]) -> dict[str, Status]:
    return {name: verdict.status for name, verdict in verdicts.items()}


class ConfiguredOrthanc:
    """A fresh Orthanc with options of Orthanc's own changed; its DICOM server is on unless `options` say otherwise."""

    def __init__(self, folder: Path, **options: Any) -> None:
        executable = find_orthanc()
        if executable is None:
            pytest.skip("Orthanc is not installed (make test installs it)")
        self.port, self.dicom_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        part = orthanc_part(executable, folder, self.port)
        path = Path(part.command[-1])
        configuration = json.loads(path.read_text())
        configuration |= {"DicomServerEnabled": True, "DicomPort": self.dicom_port, "DicomAet": "PACS", **options}
        path.write_text(json.dumps(configuration))
        self._running = Running(part.command, folder / "orthanc.log")
        wanted = [self.port, self.dicom_port] if configuration["DicomServerEnabled"] else [self.port]
        wait_for("Orthanc listens", lambda: all(map(_listens, wanted)), 20)

    def destination(self, **values: Any) -> OrthancDestination:
        return OrthancDestination.model_validate({"name": "pacs", "url": self.url, **values})

    def objects(self) -> list[str]:
        """Orthanc's identifiers of every instance that it holds."""
        return list(TimedOrthanc(self.url, None, None, 10.0).get_json("instances"))

    def stop(self) -> None:
        self._running.stop()


@contextmanager
def orthanc(folder: Path, **options: Any) -> Iterator[ConfiguredOrthanc]:
    server = ConfiguredOrthanc(folder, **options)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def silent_port() -> Iterator[int]:
    """A port at which connections are accepted and never answered."""
    with _accepting(lambda connection: None) as port:
        yield port


@contextmanager
def port_that_hangs_up() -> Iterator[int]:
    """A port at which connections are accepted and closed once something has come."""

    def hang_up(connection: socket.socket) -> None:
        connection.recv(1)
        connection.close()

    with _accepting(hang_up) as port:
        yield port


@contextmanager
def _accepting(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        port: int = listener.getsockname()[1]
        accepted: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return  # the end of the test
                accepted.append(connection)
                serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield port
        listener.shutdown(socket.SHUT_RDWR)
        for each in accepted:
            each.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
