"""A device's way through the queue: takes batches, has its engine process compute them, and mends what goes wrong.

While one batch is computed on a CUDA device the next is already there. An engine that hangs, dies or fails is killed
and restarted; what was in it is then tried one by one, so that only a poisonous image fails.
"""

import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from schemas.bundle import Manifest
from schemas.errors import EngineDiedError, EngineError, EngineUnavailableError
from schemas.settings import WorkerSettings
from workers.engine_link import EngineLink
from workers.engine_messages import BANKS, BatchOutput, Failure, Forward, OutOfMemory, Ready
from workers.engine_queue import Computed, ImageQueue, Job
from workers.shared_images import SharedImages

log = structlog.get_logger()

#: A device whose engine does not start leaves the images to the others for so long.
_PAUSE_SECONDS = 10.0


@dataclass(frozen=True)
class Batching:
    """How many images go through the model together, how long one waits for company, how many batches are under way."""

    size: int
    wait_seconds: float
    #: 1 to BANKS.
    under_way: int

    @classmethod
    def of(cls, device: str, settings: WorkerSettings) -> "Batching":
        """What suits the device.

        Batching gains nothing on a CPU (measured) and would only let images wait; nor does a batch in hand, which a
        more urgent image could not overtake.
        """
        return cls(1, 0.0, 1) if device == "cpu" else cls(settings.batch, settings.batch_wait_seconds, BANKS)


@dataclass(frozen=True)
class _Batch:
    number: int
    jobs: list[Job]


class Lane:
    """The thread and the engine process of one device, which is one of `lanes` on this queue."""

    def __init__(
        self,
        queue: ImageQueue,
        lanes: int,
        bundle: Path,
        manifest: Manifest,
        device: str,
        settings: WorkerSettings,
        batching: Batching,
    ) -> None:
        self._queue = queue
        self._lanes = lanes
        self._device = device
        self._batching = batching
        #: Images that fit into the device's memory together: halved when they do not.
        self._most = batching.size
        self._images = SharedImages(BANKS, batching.size, manifest.preprocessing.size)
        self._details = None
        if manifest.second_look is not None:
            self._details = SharedImages(BANKS, batching.size, manifest.second_look.detail_size, np.uint8)
        self._sent = 0
        self._link = EngineLink(bundle, device, self._images, self._details, settings)
        self._ready: Ready | None = None
        self._thread = threading.Thread(target=self._serve, name=f"engine-{device}", daemon=True)

    @property
    def pid(self) -> int | None:
        """Of the engine process, where one runs."""
        return self._link.pid

    def launch(self) -> Ready:
        """Load the bundle and pass its self-test. Raises EngineUnavailableError."""
        loaded = self._link.start()
        if self._ready and loaded.ready.bundle_digest != self._ready.bundle_digest:
            self._link.kill()
            raise EngineUnavailableError("The bundle was changed in its place; activate it as a new one.")
        self._ready = loaded.ready
        log.info(
            "engine ready",
            engine=loaded.ready.name,
            device=loaded.ready.device,
            precision=loaded.ready.precision,
            bundle=loaded.ready.bundle_digest[:12],
            selftest_difference=f"{loaded.selftest_difference:.2g}",
            reason=loaded.reason,
        )
        return loaded.ready

    def serve(self) -> None:
        """Take images from now on, until the queue is closed and empty."""
        self._thread.start()

    def close(self) -> None:
        """Wait for the images under way, which the watchdog bounds, and end the engine process."""
        if self._thread.is_alive():
            self._thread.join()
        self._link.kill()
        self._images.close()
        if self._details is not None:
            self._details.close()

    def _serve(self) -> None:
        under_way: deque[_Batch] = deque()
        while True:
            try:
                self._fill(under_way)
                if not under_way:
                    return
                self._settle(under_way[0], self._link.receive())
                under_way.popleft()
            except Exception as error:  # noqa: BLE001 - a dead thread would leave everybody waiting for ever
                self._recover(under_way, error if isinstance(error, EngineError) else EngineError(repr(error)))

    def _fill(self, under_way: deque[_Batch]) -> None:
        """Send batches until as many are under way as may be; an image that goes alone shares with none."""
        while len(under_way) < self._batching.under_way and not (under_way and under_way[0].jobs[0].alone):
            idle = not under_way
            jobs = self._queue.take(self._most, self._batching.wait_seconds, idle)
            if not jobs:
                return
            self._sent += 1
            under_way.append(_Batch(self._sent, jobs))
            if idle and self._link.pid is None:  # died while it had nothing to do
                self.launch()
            bank = self._sent % BANKS
            for slot, job in zip(self._images.array[bank], jobs, strict=False):
                slot[:] = job.image
            details = [job.detail for job in jobs if job.detail is not None]
            if self._details is not None:
                for slot, detail in zip(self._details.array[bank], details, strict=False):
                    slot[:] = detail.pixels
            self._link.send(Forward(self._sent, bank, len(jobs), tuple(each.placement for each in details)))

    def _settle(self, batch: _Batch, answer: BatchOutput | OutOfMemory) -> None:
        if answer.number != batch.number:
            raise EngineError(f"Answer {answer.number} came for batch {batch.number}.")
        if isinstance(answer, OutOfMemory):
            self._halve(batch.jobs, answer)
            return
        assert self._ready is not None
        for job, output in zip(batch.jobs, answer.images, strict=True):
            if isinstance(output, Failure):
                job.future.set_exception(EngineError(output.reason))
            else:
                job.future.set_result(Computed(output, self._ready))

    def _halve(self, jobs: list[Job], answer: OutOfMemory) -> None:
        if len(jobs) == 1:
            jobs[0].future.set_exception(
                EngineError(f"Not even one image fits into the memory of {self._device}: {answer.reason}")
            )
            return
        self._most = max(1, min(self._most, len(jobs) // 2))
        log.warning("out of memory: smaller batches from now on", device=self._device, batch=self._most)
        self._queue.put_back(jobs)

    def _recover(self, under_way: deque[_Batch], error: EngineError) -> None:
        """After a failure of the engine process: who was in it alone is to blame, several are tried one by one.

        So is one whose engine died, once: somebody else may have killed it, such as the kernel for want of memory.
        """
        jobs = [job for batch in under_way for job in batch.jobs if not job.future.done()]
        under_way.clear()
        log.error("engine failed", device=self._device, images=len(jobs), error=error)
        self._link.kill()
        if isinstance(error, EngineUnavailableError):
            self._leave_to_others(jobs, error)
            return
        if len(jobs) > 1 or (isinstance(error, EngineDiedError) and not any(job.alone for job in jobs)):
            for job in jobs:
                job.alone = True
            self._queue.put_back(jobs)
        else:
            for job in jobs:
                job.future.set_exception(error)
        if not self._queue.closed:
            try:
                self.launch()  # the next image shall not wait for it
            except EngineError as failure:
                log.error("engine does not start", device=self._device, error=failure)

    def _leave_to_others(self, jobs: list[Job], error: EngineUnavailableError) -> None:
        """Images that every device has refused fail."""
        for job in jobs:
            job.refused += 1
            if job.refused >= self._lanes:
                job.future.set_exception(error)
        self._queue.put_back([job for job in jobs if job.refused < self._lanes])
        if self._lanes > 1:
            self._queue.pause(_PAUSE_SECONDS)
