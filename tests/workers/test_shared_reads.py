"""An image is read once for all bundles that analyse it, also when two threads want it at the same moment."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from schemas.errors import PixelDataError
from schemas.preprocessing import Preprocessing
from tests.support.phantoms import write_phantom
from workers.preparation import Wanted, prepare
from workers.processes import Processes
from workers.shared_reads import Placed, SharedReads

SMALL = Wanted(Preprocessing(profile="letterbox", size=64, mean=(0.5,), std=(0.25,)))
LARGE = Wanted(
    Preprocessing(profile="letterbox", size=128, mean=(0.5,), std=(0.25,)),
    Preprocessing(profile="letterbox", size=256, mean=(0.5,), std=(0.25,)),
)


class CountingProcesses(Processes):
    """The real processes, and what they were asked to read."""

    def __init__(self) -> None:
        super().__init__(1, 60)
        self.read: list[Path] = []

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        self.read.append(args[0])
        return super().call(function, *args, **kwargs)


@pytest.fixture(scope="module")
def processes() -> Iterator[CountingProcesses]:
    pool = CountingProcesses()
    yield pool
    pool.close()


@pytest.fixture
def path(tmp_path: Path, processes: CountingProcesses) -> Path:
    write_phantom(tmp_path / "a.dcm", rows=300, columns=300)
    processes.read.clear()
    return tmp_path / "a.dcm"


def test_the_second_bundle_takes_what_was_placed_for_it_when_the_first_had_it_read(
    processes: CountingProcesses, path: Path
) -> None:
    reads = SharedReads(processes, 8)
    first = reads.place("pixels", path, SMALL, [LARGE])
    second = reads.place("pixels", path, LARGE, [SMALL])
    assert processes.read == [path]
    assert (first.read_for_this, second.read_for_this) == (True, False)
    for placed, wanted in zip((first, second), prepare(path, [SMALL, LARGE]), strict=True):
        np.testing.assert_array_equal(placed.image.pixels, wanted.pixels)
    assert first.image.detail is None
    assert second.image.detail is not None and second.image.detail.pixels.shape == (256, 256)


def test_threads_that_want_it_at_the_same_moment_share_one_reading(processes: CountingProcesses, path: Path) -> None:
    reads = SharedReads(processes, 8)
    together = threading.Barrier(4)
    placed: list[Placed] = []

    def want(own: Wanted, others: Sequence[Wanted]) -> None:
        together.wait()
        placed.append(reads.place("pixels", path, own, others))

    threads = [
        threading.Thread(target=want, args=each) for each in ((SMALL, [LARGE]), (LARGE, [SMALL])) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert processes.read == [path]
    assert sorted(each.image.pixels.shape for each in placed) == [(64, 64)] * 2 + [(128, 128)] * 2
    assert sum(each.read_for_this for each in placed) == 1


def test_an_image_that_cannot_be_read_fails_for_each_and_is_read_again_at_the_next_attempt(
    processes: CountingProcesses, tmp_path: Path
) -> None:
    def torn(dataset: Dataset) -> None:
        dataset.PixelData = dataset.PixelData[:1000]

    write_phantom(tmp_path / "torn.dcm", rows=300, columns=300, change=torn)
    processes.read.clear()
    reads = SharedReads(processes, 8)
    for attempt in (1, 2):
        with pytest.raises(PixelDataError):
            reads.place("torn", tmp_path / "torn.dcm", SMALL, [LARGE])
        assert len(processes.read) == attempt
    write_phantom(tmp_path / "torn.dcm", rows=300, columns=300)
    assert reads.place("torn", tmp_path / "torn.dcm", LARGE, []).read_for_this


def test_only_the_last_few_images_are_kept(processes: CountingProcesses, path: Path) -> None:
    reads = SharedReads(processes, 2)
    for pixels in ("one", "two", "three"):
        reads.place(pixels, path, SMALL, [])
    assert not reads.place("three", path, SMALL, []).read_for_this
    assert reads.place("one", path, SMALL, []).read_for_this
