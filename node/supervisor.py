"""The supervisor of `chexnode up`: starts the parts of a node as processes and restarts what dies."""

import errno
import fcntl
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from schemas.errors import AlreadyRunningError, ChexnodeError, PortInUseError, SettingsError

log = structlog.get_logger()

#: A part that lives shorter than this has failed to start.
_START_SECONDS = 10.0
_FAILED_STARTS = 4
_STOP_SECONDS = 15.0
#: Before a part that does not come up is tried again.
_LONGEST_WAIT_SECONDS = 300.0


class PartFailedError(ChexnodeError):
    """A part of the node does not start."""


@dataclass
class Part:
    """A process of the node."""

    name: str
    command: Sequence[str]
    #: Without it there is no node. One that is not needed is tried again and again instead, and takes nothing down.
    needed: bool = True
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failed_starts: int = 0
    #: time.monotonic() before which it is not restarted.
    not_before: float = 0.0
    #: Size of its log when it was started: what is before belongs to earlier runs.
    log_start: int = 0


def chexnode_part(name: str, *arguments: str, needed: bool = True) -> Part:
    """A part that is a sub-command of ours. -P: what lies in the current folder must not be imported."""
    return Part(name, [sys.executable, "-P", "-m", "schemas.command_line", *arguments], needed)


class Supervisor:
    """Keeps its parts running. A part's log is `logs`/NAME.log.

    Every part gets SIGTERM when this process dies, however it dies: a kill -9 here leaves no port behind.
    """

    def __init__(self, parts: Sequence[Part], logs: Path) -> None:
        self.parts = list(parts)
        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        for part in self.parts:
            self._launch(part)

    def check(self) -> None:
        """Restart parts that ended. Raises PartFailedError when one that is needed does not come up."""
        for part in self.parts:
            if part.process is None:
                if time.monotonic() >= part.not_before:
                    self._launch(part)
            elif (status := part.process.poll()) is not None:
                self._ended(part, status)

    def serve(self) -> None:
        """Keep the parts running until KeyboardInterrupt. Raises PartFailedError."""
        while True:
            time.sleep(0.2)
            self.check()

    def stop(self) -> None:
        """SIGTERM to every part in reverse order, SIGKILL to what does not go."""
        running = [part for part in reversed(self.parts) if part.process and part.process.poll() is None]
        for part in running:
            assert part.process
            part.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for part in running:
            assert part.process
            try:
                part.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("killed, since it did not stop", part=part.name)
                part.process.kill()
                part.process.wait()

    def log_path(self, part: Part) -> Path:
        return self._logs / f"{part.name}.log"

    def _launch(self, part: Part) -> None:
        setpriv = shutil.which("setpriv")
        # setpriv (util-linux) arms the parent-death signal and becomes the command.
        guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        with self.log_path(part).open("ab") as stream:
            part.log_start = stream.tell()
            part.process = subprocess.Popen(
                [*guard, *part.command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone
            )
        part.started = time.monotonic()

    def _ended(self, part: Part, status: int) -> None:
        lived = time.monotonic() - part.started
        part.process = None
        part.failed_starts = part.failed_starts + 1 if lived < _START_SECONDS else 0
        log.warning("part ended, restarting", part=part.name, status=status, lived_seconds=round(lived, 1))
        if part.failed_starts >= _FAILED_STARTS and part.needed:
            tail = "\n".join(
                self.log_path(part).read_bytes()[part.log_start :].decode(errors="replace").splitlines()[-15:]
            )
            raise PartFailedError(f"{part.name} ended {part.failed_starts} times in a row. Its log ends so:\n{tail}")
        part.not_before = time.monotonic() + min(_LONGEST_WAIT_SECONDS, 0.5 * 2.0 ** min(part.failed_starts, 12))


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the lock of the home folder. Raises AlreadyRunningError; the lock dies with the process."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError(
                f"{home}: stop it first, or take another folder (CHEXNODE_HOME; demo --home; make run HOME_FOLDER=...)."
            ) from error
        yield


def check_port(host: str, port: int, purpose: str, setting: str) -> None:
    """Raise PortInUseError when nobody could listen there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise SettingsError(f"{purpose} cannot listen on {host}:{port}: {error.strerror}.") from error
            raise PortInUseError(
                f"{purpose} needs {host}:{port}: {error.strerror}. Stop what uses it, or set {setting} to a free port."
            ) from error


@contextmanager
def stop_signals() -> Iterator[None]:
    """Within the block SIGTERM is as Ctrl-C: KeyboardInterrupt, so that everything is stopped in order."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
