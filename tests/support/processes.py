"""Processes that tests start and stop, and waiting for conditions (never for luck)."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def free_port() -> int:
    """A TCP port that nobody listens on at present.

    Not one that the system gives: until it is used, the system may give it to somebody's outgoing connection. Tests
    that run side by side choose from ranges of their own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 20_000 + 2_000 * (worker % 6)
    for port in random.sample(range(first, first + 2_000), 2_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no TCP port from {first} on is free")


def free_ports() -> dict[str, str]:
    """Environment of a node that shall not meet another one's ports."""
    return {"CHEXNODE_DICOM__PORT": str(free_port()), "CHEXNODE_PAGE__PORT": str(free_port())}


def wait_for(what: str, condition: Callable[[], T | None], seconds: float = 60.0, every: float = 0.02) -> T:
    """The first true value of `condition`; fails the test with `what` when it never comes."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(every)


class Running:
    """A process in a session of its own, its output in a file."""

    def __init__(self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """kill -9 of this process alone."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM; SIGKILL to its whole session when it does not go."""
        if self.alive:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        return self.process.returncode
