"""Processes that draw phantoms or read images, and the sizes of films. Called by whatever makes examples or films."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

#: prctl(2): signal to send when the parent dies.
_PR_SET_PDEATHSIG = 1


def film_size(seed: int, side: int) -> tuple[int, int]:
    """Rows and columns of a phantom whose longer side is `side`: square, portrait or landscape, by seed."""
    short = round(side * (0.78 + 0.02 * (seed % 11)))
    return ((side, side), (side, short), (short, side), (side, side))[seed % 4]


@contextmanager
def render_processes() -> Iterator[ProcessPoolExecutor]:
    """Two spawned processes for rendering, one thread each; they end with this process, also when that is killed."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, spawn, _die_with_parent, (os.getpid(),)) as processes:
            yield processes
    finally:
        if before is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = before


def _die_with_parent(parent: int) -> None:
    """A killed training would leave its processes behind, each waiting for work for ever."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
