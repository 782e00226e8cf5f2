"""Each image is read once, however many bundles analyse it: who comes second takes what the first has placed for both.

Used by the inference tasks of one worker; the pixels stay in memory for a short time only.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from workers.preparation import Prepared, Wanted, prepare
from workers.processes import Processes

_Key: TypeAlias = tuple[str, Wanted]


@dataclass(frozen=True)
class Placed:
    """An image as a bundle's engine takes it, and where it came from."""

    image: Prepared
    #: False: it had been read for another bundle.
    read_for_this: bool


class SharedReads:
    """Placed images of the last few files.

    Parameters
    ----------
    capacity
        Placed images that are kept; the oldest go first.
    """

    def __init__(self, processes: Processes, capacity: int) -> None:
        self._processes = processes
        self._capacity = capacity
        self._lock = threading.Lock()
        self._placed: OrderedDict[_Key, Future[Prepared]] = OrderedDict()

    def place(self, pixel_digest: str, path: Path, wanted: Wanted, others: Sequence[Wanted]) -> Placed:
        """The image at `path` placed for `wanted`; when it has to be read, it is placed for `others` as well.

        Raises what `workers.preparation.prepare` raises, or WorkerProcessLostError; everybody who waits for the same
        reading gets the same error.
        """
        with self._lock:
            known = self._placed.get((pixel_digest, wanted))
            if known is None:
                missing = [
                    each
                    for each in dict.fromkeys([wanted, *others])
                    if each == wanted or (pixel_digest, each) not in self._placed
                ]
                futures = {(pixel_digest, each): Future[Prepared]() for each in missing}
                self._placed |= futures
                while len(self._placed) > self._capacity:
                    self._placed.popitem(last=False)
        if known is not None:
            return Placed(known.result(), read_for_this=False)
        try:
            placed = self._processes.call(prepare, path, missing)
        except BaseException as error:
            with self._lock:
                for key, future in futures.items():
                    if self._placed.get(key) is future:
                        del self._placed[key]
            for future in futures.values():
                future.set_exception(error)
            raise
        for future, image in zip(futures.values(), placed, strict=True):
            future.set_result(image)
        return Placed(placed[0], read_for_this=True)
