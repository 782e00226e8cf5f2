"""The process pool: a process that dies or hangs fails its own item and no other."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from schemas.errors import PixelDataError, WorkerProcessLostError
from workers.processes import Processes


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    pool = Processes(2, deadline_seconds=3)
    pool.start()
    yield pool
    pool.close()


def double(value: int) -> int:
    return 2 * value


def die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    time.sleep(600)


def refuse() -> None:
    raise PixelDataError("torn stream")


def test_a_crash_and_a_hang_fail_alone(processes: Processes) -> None:
    with ThreadPoolExecutor(8) as threads:
        good = [threads.submit(processes.call, double, number) for number in range(6)]
        bad = [threads.submit(processes.call, function) for function in (die, hang)]
    assert [future.result() for future in good] == [0, 2, 4, 6, 8, 10]
    for future in bad:
        error = future.exception()
        assert isinstance(error, WorkerProcessLostError) and error.retryable
    assert processes.call(double, 21) == 42


def test_an_error_comes_back_as_it_was_raised(processes: Processes) -> None:
    with pytest.raises(PixelDataError, match="torn stream"):
        processes.call(refuse)
