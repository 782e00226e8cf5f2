"""The process pool in which pixels are decoded and result objects built: both hold the GIL, and a codec may crash.

A process that dies or hangs takes only its own item with it (pebble); the pool goes on.
"""

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import ParamSpec, TypeVar

from pebble import ProcessExpired, ProcessPool

from node.monitoring.logs import configure_logs
from schemas.errors import WorkerProcessLostError

P = ParamSpec("P")
T = TypeVar("T")


class Processes:
    """A pool of spawned processes, warmed up so that the first study is as fast as the next.

    Parameters
    ----------
    warm_up
        False: for who builds no results, and does not want to wait for it.
    """

    def __init__(self, count: int, deadline_seconds: float, *, warm_up: bool = True) -> None:
        self._deadline_seconds = deadline_seconds
        self._count = count
        self._pool = ProcessPool(
            max_workers=count,
            context=multiprocessing.get_context("spawn"),
            initializer=_initialise,
            initargs=[warm_up],
        )

    def start(self) -> None:
        """Start the processes and wait until they have imported and cached what they need."""
        for future in [self._pool.schedule(_nothing) for _ in range(self._count)]:
            future.result()

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a module-level function in one of the processes and wait for it.

        Raises what it raises, or WorkerProcessLostError when its process died or took too long.
        """
        return self.call_for(1, function, *args, **kwargs)

    def call_for(self, items: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As call(), for work on `items` images, with as many times the deadline."""
        deadline = items * self._deadline_seconds
        future = self._pool.schedule(function, args=list(args), kwargs=kwargs, timeout=deadline)
        try:
            result: T = future.result()
        except ProcessExpired as error:
            raise WorkerProcessLostError(f"{function.__name__}: exit status {error.exitcode}.") from error
        except FutureTimeoutError as error:
            raise WorkerProcessLostError(
                f"{function.__name__} took longer than {deadline:g} s and was killed."
            ) from error
        return result

    def close(self) -> None:
        """Stop the processes; what they were at is lost and will be done again."""
        self._pool.stop()
        self._pool.join()


def _initialise(warm_up: bool) -> None:
    # Ctrl-C goes to the whole terminal's process group; the worker decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logs()
    if not warm_up:
        return
    import workers.preparation
    from workers.results import warm

    assert workers.preparation
    warm.warm_up()


def _nothing() -> None:
    """Returns once the process is initialised."""
