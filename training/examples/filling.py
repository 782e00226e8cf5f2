"""Fills a folder of examples by two processes; what a killed run has done is not done again.

Called by training/examples/radiographs.py for phantoms and for radiographs.
"""

from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from schemas.preprocessing import Preprocessing
from training.examples.placing import Truth, write_example
from training.examples.store import ARRAYS, Examples, create_examples, open_examples
from training.rendering import render_processes

_CHUNK = 20


@dataclass(frozen=True)
class Placing:
    """How the model sees examples."""

    preprocessing: Preprocessing
    #: Side of the square that the second look's crop is cut from; at least `examples.DETAIL_CROP`.
    detail_size: int = 1024


@dataclass(frozen=True, eq=False)
class Pictured:
    """One image and what is known of it."""

    #: float32 [rows, columns] in 0..1, MONOCHROME2 sense.
    image: NDArray[np.float32]
    truth: Truth


class Maker(Protocol):
    """Makes the example of an index, the same each time; it travels to other processes."""

    def __call__(self, index: int) -> Pictured: ...


def fill(folder: Path, count: int, maker: Maker, placing: Placing, progress: Progress, title: str) -> Examples:
    """The `count` examples that `maker` makes, in `folder`; only those that are not there yet are made."""
    done = folder / "done"
    if not done.exists():
        create_examples(folder, count, placing.preprocessing.size)
        # The last step: a folder that was left before it is made anew.
        done.mkdir()
    waiting = [start for start in range(0, count, _CHUNK) if not (done / str(start)).exists()]
    if waiting:
        left = sum(min(_CHUNK, count - start) for start in waiting)
        task = progress.add_task(title, total=count, completed=count - left)
        work = partial(_fill_chunk, folder, count, maker, placing)
        if len(waiting) == 1:
            # Starting processes takes longer.
            progress.advance(task, work(waiting[0]))
            return open_examples(folder)
        with render_processes() as processes:
            for future in as_completed([processes.submit(work, start) for start in waiting]):
                progress.advance(task, future.result())
    return open_examples(folder)


def _fill_chunk(folder: Path, count: int, maker: Maker, placing: Placing, start: int) -> int:
    examples = open_examples(folder, writable=True)
    stop = min(start + _CHUNK, count)
    for index in range(start, stop):
        made = maker(index)
        write_example(examples, index, made.image, made.truth, placing.preprocessing, placing.detail_size)
    for name in ARRAYS:
        array = getattr(examples, name)
        if isinstance(array, np.memmap):
            array.flush()
    (folder / "done" / str(start)).touch()
    return stop - start
