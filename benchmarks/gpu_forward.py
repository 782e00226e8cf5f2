"""ViT-L/16 at 512 px on a CUDA device: `python -m benchmarks.gpu_forward [--device cuda:0]`. Needs a GPU.

Images/s at batch 1 to 64 of torch bfloat16, eager and compiled with CUDA graphs, as a fraction of the bfloat16 matrix
rate measured in the same run, and against eager float16 autocast, as the published code runs it.
"""

import argparse
import copy
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.random_vit import flops, random_vit
from workers.backends.graph import InferenceGraph
from workers.backends.torch_backend import TorchBackend

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
#: Each figure is measured for about so long.
_SECONDS = 2.0


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    device = parser.parse_args().device
    console = Console(width=120)
    if not torch.cuda.is_available():
        console.print("No CUDA device on this machine: nothing was measured.")
        sys.exit(1)
    loaded = random_vit(Path("bundle"))
    preprocessing = loaded.manifest.preprocessing
    work = flops(loaded.network, preprocessing.size)
    rate = _matrix_rate(device)
    graph = InferenceGraph(copy.deepcopy(loaded.network), preprocessing).to(device)
    backends = [
        TorchBackend(InferenceGraph(copy.deepcopy(loaded.network), preprocessing), device, "bfloat16", compiled)
        for compiled in (False, True)
    ]
    title = f"{torch.cuda.get_device_name(device)}, {rate / 1e12:.0f} TFLOP/s in bfloat16, {work / 1e9:.0f} GFLOP/image"
    table = Table(
        *("batch", "eager fp16 autocast, images/s", "bf16", "fraction", "against fp16"),
        *("bf16 compiled", "fraction (aim 0.6 from 8)", "against fp16 (aim 2)"),
        title=title,
    )
    with Progress(console=console, transient=True) as progress:
        for batch in progress.track(_BATCHES, description="batches"):
            images = np.random.default_rng(0).uniform(size=(batch, preprocessing.size, preprocessing.size))
            placed = images.astype(np.float32)
            published = batch / _seconds(lambda placed=placed: _published(graph, placed, device))  # type: ignore[misc]
            row = [str(batch), f"{published:.1f}"]
            for backend in backends:
                # Two under way, as in an engine process.
                ours = 2 * batch / _seconds(lambda backend=backend, placed=placed: _twice(backend, placed))  # type: ignore[misc]
                row += [f"{ours:.1f}", f"{ours * work / rate:.2f}", f"{ours / published:.2f}x"]
            table.add_row(*row)
    console.print(table)


def _published(graph: InferenceGraph, images: np.ndarray, device: str) -> None:
    with torch.inference_mode(), torch.autocast("cuda", torch.float16):
        output = graph(torch.from_numpy(images).to(device))
    for tensor in output:
        tensor.cpu()


def _twice(backend: TorchBackend, images: np.ndarray) -> None:
    for finish in [backend.launch(images), backend.launch(images)]:
        finish()


def _seconds(run: Callable[[], object]) -> float:
    """Of one call, once it is warm."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    started, count = perf_counter(), 0
    while perf_counter() - started < _SECONDS:
        run()
        torch.cuda.synchronize()
        count += 1
    return (perf_counter() - started) / count


def _matrix_rate(device: str) -> float:
    """FLOP/s of the best product of two square bfloat16 matrices."""
    rates = []
    for side in (4096, 8192):
        left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
        rates.append(2 * side**3 / _seconds(lambda left=left, right=right: left @ right))  # type: ignore[misc]
    return max(rates)


if __name__ == "__main__":
    main()
