"""One engine process as its worker sees it: started from a fork server, spoken to over a pipe, killed when it hangs.

The fork server has torch imported already, so that an engine is there in a fraction of a second (engine_preload.py).
"""

import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from schemas.errors import EngineDiedError, EngineError, EngineUnavailableError
from schemas.settings import WorkerSettings
from workers.engine_messages import Answer, BatchOutput, Failure, Forward, Loaded, OutOfMemory
from workers.engine_process import serve
from workers.shared_images import SharedImages


class EngineLink:
    """The process that computes `bundle` on `device`, and computes it anew after each `kill`."""

    def __init__(
        self,
        bundle: Path,
        device: str,
        images: SharedImages,
        details: SharedImages | None,
        settings: WorkerSettings,
    ) -> None:
        self._bundle = bundle
        self._device = device
        self._images = images
        self._details = details
        self._settings = settings
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    def start(self) -> Loaded:
        """Start the process and wait until it has loaded the bundle and passed its self-test.

        Raises EngineUnavailableError with the process's own words.
        """
        self.kill()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["workers.engine_preload"])
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve,
            args=(theirs, self._images, self._details, self._bundle, self._device),
            name=f"chexnode-engine-{self._device}",
            daemon=True,
        )
        try:
            self._process.start()
            theirs.close()
            answer = self._receive(self._settings.engine_start_seconds)
        except (OSError, EOFError, EngineError) as error:
            reason = error.detail if isinstance(error, EngineError) else "its process died."
            self.kill()
            raise EngineUnavailableError(f"{self._bundle} on {self._device}: {reason}") from error
        assert isinstance(answer, Loaded)
        return answer

    def send(self, request: Forward) -> None:
        """Raises EngineDiedError when the process is gone."""
        assert self._connection is not None
        try:
            self._connection.send(request)
        except OSError as error:
            raise self._death() from error

    def receive(self) -> BatchOutput | OutOfMemory:
        """The answer to the oldest request that has none.

        Raises EngineDiedError when the process dies, EngineError when it fails or takes longer than the settings allow.
        """
        try:
            answer = self._receive(self._settings.engine_deadline_seconds)
        except (OSError, EOFError) as error:
            raise self._death() from error
        assert isinstance(answer, BatchOutput | OutOfMemory)
        return answer

    def _death(self) -> EngineDiedError:
        assert self._process is not None
        self._process.join(timeout=1.0)
        return EngineDiedError(f"Exit status {self._process.exitcode}.")

    def kill(self) -> None:
        """End the process at once, whatever it is at."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            if self._process.pid is not None:  # it may never have started
                self._process.kill()
                self._process.join()
            self._process = None

    def _receive(self, seconds: float) -> Answer:
        assert self._connection is not None
        if not self._connection.poll(seconds):
            raise EngineError(f"No answer within {seconds:g} s; killed.")
        answer: Answer = self._connection.recv()
        if isinstance(answer, Failure):
            raise EngineError(answer.reason)
        return answer
