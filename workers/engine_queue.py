"""The images that wait for an engine: one queue for all devices, the most urgent first."""

import heapq
import itertools
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from schemas.errors import EngineError
from workers.engine_messages import Ready
from workers.output import ModelOutput
from workers.second_look import Detail


@dataclass(frozen=True)
class Computed:
    """What an engine made of an image, and which one."""

    output: ModelOutput
    by: Ready


@dataclass(order=True)
class Job:
    """An image on its way through an engine."""

    priority: int
    number: int
    #: float32 [size, size].
    image: NDArray[np.float32] = field(compare=False)
    #: For the second look.
    detail: Detail | None = field(compare=False, default=None)
    future: "Future[Computed]" = field(compare=False, default_factory=Future)
    #: Was in the engine when that failed: next time it goes alone, so that only the culprit fails.
    alone: bool = field(compare=False, default=False)
    #: Devices whose engine did not start for it.
    refused: int = field(compare=False, default=0)


class ImageQueue:
    """Given to by any thread, taken from by one thread per device."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._closed = False

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, image: NDArray[np.float32], priority: int, detail: Detail | None = None) -> "Future[Computed]":
        """Queue an image; lower priorities go first, equal ones in the order of their coming. Raises EngineError."""
        with self._changed:
            if self._closed:
                raise _closed()
            job = Job(priority, next(self._numbers), image, detail)
            heapq.heappush(self._jobs, job)
            self._changed.notify_all()
        return job.future

    def put_back(self, jobs: list[Job]) -> None:
        """Queue again, in their old places, images that an engine could not finish."""
        with self._changed:
            for job in jobs:
                heapq.heappush(self._jobs, job)
            self._changed.notify_all()

    def take(self, most: int, wait_seconds: float, idle: bool) -> list[Job]:
        """The most urgent images, `most` at the most.

        Parameters
        ----------
        wait_seconds
            How long an image waits for company.
        idle
            The caller has nothing else to do: wait for an image; [] then says that the queue is closed and empty.
            Otherwise take what is there, or nothing.
        """
        with self._changed:
            if idle:
                self._wait_for_company(most, wait_seconds)
            batch: list[Job] = []
            while self._jobs and len(batch) < most and (not self._jobs[0].alone or (idle and not batch)):
                batch.append(heapq.heappop(self._jobs))
                if batch[0].alone:
                    break
            return batch

    def pause(self, seconds: float) -> None:
        """Wait so long, or until the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)

    def close(self, drain: bool) -> None:
        """Take no more images; those that wait are finished (`drain`), or fail with EngineError."""
        with self._changed:
            self._closed = True
            if not drain:
                while self._jobs:
                    heapq.heappop(self._jobs).future.set_exception(_closed())
            self._changed.notify_all()

    def _wait_for_company(self, most: int, wait_seconds: float) -> None:
        while True:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            deadline = monotonic() + wait_seconds
            while self._wants_company(most) and (left := deadline - monotonic()) > 0:
                self._changed.wait(left)
            if self._jobs or self._closed:  # else another device was faster
                return

    def _wants_company(self, most: int) -> bool:
        return 0 < len(self._jobs) < most and not self._jobs[0].alone and not self._closed


def _closed() -> EngineError:
    return EngineError("This engine was closed; the image is analysed by the next one.")
