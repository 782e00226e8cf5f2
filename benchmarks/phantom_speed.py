"""Phantoms per second of one core: `python -m benchmarks.phantom_speed [--count 60] [--side 512]`.

One process, one thread, by turns: image and labels alone, all masks too, all masks and both twins, and beside them
SciPy's Gaussian blur of an image of that size, whose multiple travels where a rate does not. By the processor's time,
which other work on the machine hardly changes, and by the clock. A rate is that of the median image.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.ndimage import gaussian_filter

from training.phantom.render import render_phantom

#: Phantoms that nothing else draws.
_FIRST_SEED = 90_000_000
_BLUR = "a Gaussian blur, sigma 8 (SciPy, float32)"


@dataclass(frozen=True)
class _Timed:
    """One way to draw, and what an image took, seconds."""

    draw: Callable[[int, int], object]
    #: Images per second and core that issue and documentation aim at; None: no aim.
    aim: float | None
    processor: list[float] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)

    def time(self, seed: int, side: int) -> None:
        processor, clock = time.process_time(), time.perf_counter()
        self.draw(seed, side)
        self.processor.append(time.process_time() - processor)
        self.clock.append(time.perf_counter() - clock)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60, help="images of each way")
    parser.add_argument("--side", type=int, default=512, help="pixels")
    arguments = parser.parse_args()
    console = Console()
    ways = {
        "image and labels": _Timed(lambda seed, side: render_phantom(seed, side, side, masks=False), 20.0),
        "all masks too": _Timed(lambda seed, side: render_phantom(seed, side, side), None),
        "all masks and both twins": _Timed(lambda seed, side: render_phantom(seed, side, side, twins=True), 8.0),
        _BLUR: _Timed(lambda seed, side: gaussian_filter(np.ones((side, side), np.float32), 8), None),
    }
    for way in ways.values():
        # Compiled code and tables are there from the second image on.
        way.draw(_FIRST_SEED - 1, arguments.side)
    for number in track(range(arguments.count), "Drawing", console=console):
        for way in ways.values():
            way.time(_FIRST_SEED + number, arguments.side)
    table = Table(title=f"{arguments.side} x {arguments.side} pixels, {arguments.count} images, one core")
    for heading in ("", "images per second", "by the clock", "95th percentile ms", "blurs' time", "aim"):
        table.add_column(heading, justify="right" if heading else "left")
    blur = float(np.median(ways[_BLUR].processor))
    for name, way in ways.items():
        median = float(np.median(way.processor))
        table.add_row(
            name,
            f"{1 / median:.1f}",
            f"{1 / np.median(way.clock):.1f}",
            f"{1000 * np.percentile(way.processor, 95):.0f}",
            f"{median / blur:.1f}",
            "" if way.aim is None else f"{way.aim:g}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
