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
    """An array [banks, batch, size, size]; goes to a child process as one of its arguments.

    Parameters
    ----------
    banks, batch, size
        Shape of the array.
    dtype
        float32 for 0..1, or uint8 for 0..255.
    """

    _descriptor: int

    def __init__(self, banks: int, batch: int, size: int, dtype: type[np.float32 | np.uint8] = np.float32) -> None:
        descriptor = os.memfd_create("chexnode-images")
        os.ftruncate(descriptor, banks * batch * size * size * np.dtype(dtype).itemsize)
        self._map(descriptor, (banks, batch, size, size), dtype)

    def close(self) -> None:
        """Let go of the descriptor; the memory goes when nobody uses the array any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _map(self, descriptor: int, shape: tuple[int, ...], dtype: type[np.float32 | np.uint8]) -> None:
        self._descriptor = descriptor
        #: The images themselves.
        self.array: NDArray[Any] = np.frombuffer(mmap.mmap(descriptor, 0), dtype).reshape(shape)

    def __getstate__(self) -> tuple[Any, tuple[int, ...], type[Any]]:
        # Only while a child process is started does multiprocessing pass descriptors on.
        return DupFd(self._descriptor), self.array.shape, self.array.dtype.type

    def __setstate__(self, state: tuple[Any, tuple[int, ...], type[Any]]) -> None:
        duplicate, shape, dtype = state
        self._map(duplicate.detach(), shape, dtype)
