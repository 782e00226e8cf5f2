"""The engine as its worker sees it: one spawned process per device owns the model; this side never imports torch.

Images go in through shared memory, a batch at a time, the most urgent first. An engine that hangs, dies or fails is
killed and restarted; the images of its batch are then tried one by one, so that only a poisonous one fails.
"""

import heapq
import itertools
import multiprocessing
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from time import monotonic

import numpy as np
import structlog
from numpy.typing import NDArray

from schemas.bundle import Manifest
from schemas.errors import EngineError, EngineUnavailableError
from schemas.settings import WorkerSettings
from workers.engine_process import BatchOutput, Failure, Ready, serve
from workers.output import ModelOutput

log = structlog.get_logger()


@dataclass(order=True)
class _Job:
    priority: int
    number: int
    image: NDArray[np.float32] = field(compare=False)
    future: "Future[ModelOutput]" = field(compare=False)
    #: Was in a batch that failed: next time it goes alone.
    alone: bool = field(compare=False, default=False)


@dataclass(frozen=True)
class Batching:
    """How many images go through the model together, and how long one waits for company."""

    size: int
    wait_seconds: float

    @classmethod
    def of(cls, device: str, settings: WorkerSettings) -> "Batching":
        """What suits the device: batching gains nothing on a CPU (measured) and would only let images wait."""
        return cls(1, 0.0) if device == "cpu" else cls(settings.batch, settings.batch_wait_seconds)


class Engine:
    """The model on one device.

    Parameters
    ----------
    bundle
        Bundle folder; the engine verifies it and runs its self-test before it serves.
    device
        "cpu" or "cuda:N".
    batching
        How many images go together; by default what suits the device.
    """

    def __init__(
        self,
        bundle: Path,
        manifest: Manifest,
        device: str,
        settings: WorkerSettings,
        batching: Batching | None = None,
    ) -> None:
        self._bundle = bundle
        self._device = device
        self._settings = settings
        self._size = manifest.preprocessing.size
        batching = batching or Batching.of(device, settings)
        self._batch = batching.size
        self._wait_seconds = batching.wait_seconds
        self._memory = SharedMemory(create=True, size=self._batch * self._size**2 * 4)
        self._slots: NDArray[np.float32] = np.ndarray(
            (self._batch, 1, self._size, self._size), np.float32, buffer=self._memory.buf
        )
        self._jobs: list[_Job] = []
        self._arrived = threading.Condition()
        self._closed = False
        self._numbers = itertools.count()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self.ready: Ready | None = None
        self._dispatcher = threading.Thread(target=self._dispatch, name=f"engine-{device}", daemon=True)

    def start(self) -> Ready:
        """Load the bundle and pass its self-test. Raises EngineError with the engine's own words."""
        ready = self._launch()
        self._dispatcher.start()
        return ready

    def run(self, image: NDArray[np.float32], priority: int = 100) -> ModelOutput:
        """The model's output for one normalised image, float32 [1, size, size]; lower priorities go first.

        Raises EngineError.
        """
        if image.shape != (1, self._size, self._size):
            raise ValueError(f"image of shape {image.shape}, wanted (1, {self._size}, {self._size})")
        future: Future[ModelOutput] = Future()
        with self._arrived:
            if self._closed:
                raise EngineError("The worker is shutting down.")
            heapq.heappush(self._jobs, _Job(priority, next(self._numbers), image, future))
            self._arrived.notify()
        return future.result()

    def close(self) -> None:
        """Stop the engine; waiting images fail and are tried again by whoever serves next."""
        with self._arrived:
            self._closed = True
            self._arrived.notify()
        if self._dispatcher.is_alive():
            self._dispatcher.join(timeout=self._settings.engine_deadline_seconds)
        self._kill()
        self._memory.close()
        self._memory.unlink()

    def _dispatch(self) -> None:
        while batch := self._next_batch():
            try:
                outputs = self._forward([job.image for job in batch])
            except Exception as error:  # noqa: BLE001 - a dead dispatcher would leave everybody waiting for ever
                failure = error if isinstance(error, EngineError) else EngineUnavailableError(repr(error))
                log.error("engine failed", device=self._device, images=len(batch), error=str(failure))
                self._kill()
                self._again_or_fail(batch, failure)
                continue
            for job, output in zip(batch, outputs, strict=True):
                job.future.set_result(output)
        for job in self._jobs:
            job.future.set_exception(EngineError("The worker is shutting down."))

    def _next_batch(self) -> list[_Job]:
        """The most urgent images, as many as a batch holds; empty when closed."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._jobs or self._closed)
            if self._closed:
                return []
            deadline = monotonic() + self._wait_seconds
            while len(self._jobs) < self._batch and (left := deadline - monotonic()) > 0:
                self._arrived.wait(left)
            batch = [heapq.heappop(self._jobs)]
            while self._jobs and len(batch) < self._batch and not (batch[0].alone or self._jobs[0].alone):
                batch.append(heapq.heappop(self._jobs))
            return batch

    def _again_or_fail(self, batch: list[_Job], error: EngineError) -> None:
        if len(batch) == 1:
            batch[0].future.set_exception(error)
            return
        with self._arrived:
            for job in batch:
                job.alone = True
                heapq.heappush(self._jobs, job)

    def _forward(self, images: list[NDArray[np.float32]]) -> list[ModelOutput]:
        if self._connection is None:
            self._launch()
        connection = self._connection
        assert connection is not None
        for slot, image in zip(self._slots, images, strict=False):
            slot[:] = image
        try:
            connection.send(len(images))
            answer = self._answer(self._settings.engine_deadline_seconds)
        except (OSError, EOFError) as error:
            raise EngineError(f"Its process died: {error!r}.") from error
        if not isinstance(answer, BatchOutput):
            raise EngineError(str(answer))
        return answer.images

    def _launch(self) -> Ready:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve,
            args=(theirs, self._memory.name, self._slots.shape, str(self._bundle), self._device),
            name=f"chexnode-engine-{self._device}",
            daemon=True,
        )
        try:
            self._process.start()
            theirs.close()
            answer = self._answer(self._settings.engine_start_seconds)
        except (OSError, EOFError, EngineError) as error:
            self._kill()
            raise EngineUnavailableError(f"{self._bundle}: {error or 'its process died'}") from error
        if not isinstance(answer, Ready):
            self._kill()
            raise EngineUnavailableError(f"{self._bundle}: {answer}")
        self.ready = answer
        log.info("engine ready", device=answer.device, precision=answer.precision, bundle=answer.bundle_digest[:12])
        return answer

    def _answer(self, seconds: float) -> Ready | BatchOutput | Failure:
        assert self._connection is not None
        if not self._connection.poll(seconds):
            raise EngineError(f"No answer within {seconds:g} s; killed.")
        answer: Ready | BatchOutput | Failure = self._connection.recv()
        return answer

    def _kill(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            if self._process.pid is not None:  # it may never have started
                self._process.kill()
                self._process.join()
            self._process = None
