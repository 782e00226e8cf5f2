"""The engine as its worker sees it: a bundle on one or more devices; this side never imports torch.

Images go in one at a time from any thread and come out as `Computed`; the most urgent goes first, whatever the device.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Manifest
from schemas.settings import WorkerSettings
from workers.engine_lane import Batching, Lane
from workers.engine_messages import Ready
from workers.engine_queue import Computed, ImageQueue
from workers.second_look import Detail


class Engine:
    """One bundle on its devices, a process each. Several engines may stand side by side.

    Parameters
    ----------
    bundle
        Bundle folder; each process verifies it and runs its self-test before it serves.
    devices
        "cpu" or "cuda:N"; see `workers.devices.choose_devices`.
    batching
        How many images go together; by default what suits the devices.
    """

    def __init__(
        self,
        bundle: Path,
        manifest: Manifest,
        devices: Sequence[str],
        settings: WorkerSettings,
        batching: Batching | None = None,
    ) -> None:
        self._size = manifest.preprocessing.size
        self._detail_size = None if manifest.second_look is None else manifest.second_look.detail_size
        self._queue = ImageQueue()
        self._lanes = [
            Lane(
                self._queue,
                len(devices),
                bundle,
                manifest,
                device,
                settings,
                batching or Batching.of(device, settings),
            )
            for device in devices
        ]

    def start(self) -> list[Ready]:
        """Load the bundle on every device and pass its self-test; what is ready, per device.

        Raises EngineUnavailableError with the engine's own words when one does not; `close` it then.
        """
        with ThreadPoolExecutor(len(self._lanes)) as pool:
            ready = list(pool.map(Lane.launch, self._lanes))
        for lane in self._lanes:
            lane.serve()
        return ready

    def run(self, image: NDArray[np.float32], priority: int = 100, detail: Detail | None = None) -> Computed:
        """The model's output for a placed image, float32 [size, size] in 0..1; lower priorities go first.

        A bundle with a second look needs the `detail` as well. Raises EngineError.
        """
        if image.shape != (self._size, self._size) or image.dtype != np.float32:
            raise ValueError(
                f"image {image.dtype} {list(image.shape)}, wanted float32 {[self._size, self._size]}, not normalised"
            )
        given = None if detail is None else len(detail.pixels)
        if given != self._detail_size:
            raise ValueError(f"detail image of {given} pixels, wanted {self._detail_size}")
        return self._queue.put(image, priority, detail).result()

    @property
    def processes(self) -> list[int]:
        """Process identifiers of the engines that run at present."""
        return [lane.pid for lane in self._lanes if lane.pid is not None]

    @property
    def waiting(self) -> int:
        """Images that no engine has begun with."""
        return len(self._queue)

    @property
    def closed(self) -> bool:
        """Whether it takes no more images."""
        return self._queue.closed

    def close(self, drain: bool = False) -> None:
        """Take no more images, finish those under way and, with `drain`, those that wait; the others fail.

        What fails so is tried again by whoever serves next. Returns when the processes are gone.
        """
        self._queue.close(drain)
        for lane in self._lanes:
            lane.close()
