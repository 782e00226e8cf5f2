"""Images in memory that a worker and its engine process share; anonymous, so that nothing is left when both are gone.

Not multiprocessing's SharedMemory: that lives in /dev/shm, of which a container has 64 MB, and has a name to clean up.
"""

import mmap
import os
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
from numpy.typing import NDArray


class SharedImages:
    """float32 [banks, batch, size, size]; goes to a child process as one of its arguments.

    Parameters
    ----------
    banks, batch, size
        Shape of the array.
    """

    _descriptor: int

    def __init__(self, banks: int, batch: int, size: int) -> None:
        descriptor = os.memfd_create("chexnode-images")
        os.ftruncate(descriptor, banks * batch * size * size * 4)
        self._map(descriptor, (banks, batch, size, size))

    def close(self) -> None:
        """Let go of the descriptor; the memory goes when nobody uses the array any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _map(self, descriptor: int, shape: tuple[int, ...]) -> None:
        self._descriptor = descriptor
        self._shape = shape
        #: The images themselves.
        self.array: NDArray[np.float32] = np.frombuffer(mmap.mmap(descriptor, 0), np.float32).reshape(shape)

    def __getstate__(self) -> tuple[Any, tuple[int, ...]]:
        # Only while a child process is started does multiprocessing pass descriptors on.
        return DupFd(self._descriptor), self._shape

    def __setstate__(self, state: tuple[Any, tuple[int, ...]]) -> None:
        duplicate, shape = state
        self._map(duplicate.detach(), shape)
