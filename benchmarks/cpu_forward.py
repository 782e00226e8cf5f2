"""ViT-L/16 at 512 px on the CPU: `python -m benchmarks.cpu_forward [--passes 6]`. Takes some minutes and 12 GB.

Prints each engine's time per image, as a fraction of what the bfloat16 matrix rate measured in the same run allows,
and the tuned choice against plain OpenVINO bfloat16 and plain ONNX Runtime.
"""

import argparse
import copy
import os
import tempfile
from collections.abc import Callable
from math import inf
from pathlib import Path
from time import perf_counter

# As in an engine process; read when torch is imported.
import workers.engine_preload
from workers.devices import available_cores

assert workers.engine_preload

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.random_vit import flops, random_vit  # noqa: E402
from schemas.tuning import REFERENCE, EngineChoice  # noqa: E402
from workers.backends.backend import Outputs  # noqa: E402
from workers.backends.choice import make_backend  # noqa: E402
from workers.backends.openvino_runtime import openvino  # noqa: E402
from workers.bundle import LoadedBundle  # noqa: E402
from workers.landmark import sigmoid  # noqa: E402

#: Sides of the square matrices whose products give the rate; the best one counts.
_SIDES = (1024, 2048, 4096)
_ENGINES = (
    REFERENCE,
    EngineChoice(precision="bfloat16"),
    EngineChoice(name="onnxruntime"),
    EngineChoice(name="openvino"),
    EngineChoice(name="openvino", precision="bfloat16"),
)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=6)
    passes = parser.parse_args().passes
    console = Console(width=110)
    torch.set_num_threads(available_cores())
    with tempfile.TemporaryDirectory() as name, Progress(console=console, transient=True) as progress:
        loaded = random_vit(Path(name) / "bundle")
        size = loaded.manifest.preprocessing.size
        image = np.random.default_rng(0).uniform(size=(1, size, size)).astype(np.float32)
        work = flops(loaded.network, size)
        runs: dict[str, Callable[[], object]] = {}
        outputs = {}
        task = progress.add_task("", total=len(_ENGINES) + 2 + passes)
        for engine in _ENGINES:
            progress.update(task, description=f"preparing {engine}", advance=1)
            compute = runs[str(engine)] = _engine(loaded, engine, image)
            outputs[str(engine)] = compute()
        for plain, make in (("plain OpenVINO bfloat16", _plain_openvino), ("plain ONNX Runtime", _plain_onnxruntime)):
            progress.update(task, description=f"preparing {plain}", advance=1)
            runs[plain] = make(loaded, image, Path(name))
            runs[plain]()
        # Turn and turn about, the fastest pass of each: whatever else the machine does, it does to all.
        times = dict.fromkeys(runs, inf)
        rate = 0.0
        for _ in range(passes):
            progress.update(task, description="passes", advance=1)
            for label, run in runs.items():
                started = perf_counter()
                run()
                times[label] = min(times[label], perf_counter() - started)
            rate = max(rate, _matrix_rate())
    _print(work, rate, times, outputs, console)


def _engine(loaded: LoadedBundle, engine: EngineChoice, image: np.ndarray) -> Callable[[], Outputs]:
    # torch in bfloat16 converts the weights that it is given.
    own = LoadedBundle(loaded.manifest, loaded.digest, copy.deepcopy(loaded.network), loaded.folder)
    backend = make_backend(own, engine, "cpu", 1)
    return lambda: backend.launch(image)()


def _matrix_rate() -> float:
    """FLOP/s of the best product of two square bfloat16 matrices."""
    best = 0.0
    for side in _SIDES:
        left, right = (torch.randn(side, side).bfloat16() for _ in range(2))
        for _ in range(4):
            started = perf_counter()
            torch.mm(left, right)
            best = max(best, 2 * side**3 / (perf_counter() - started))
    return best


def _plain_openvino(loaded: LoadedBundle, image: np.ndarray, folder: Path) -> Callable[[], object]:
    """The network as OpenVINO's own conversion and defaults have it, apart from the precision."""
    placed = torch.from_numpy(image)[:, None].repeat(1, 3, 1, 1)
    with torch.no_grad():
        model = openvino.convert_model(loaded.network, example_input=placed, input=[tuple(placed.shape)])
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    request = compiled.create_infer_request()
    return lambda: request.infer([placed.numpy()])


def _plain_onnxruntime(loaded: LoadedBundle, image: np.ndarray, folder: Path) -> Callable[[], object]:
    placed = torch.from_numpy(image)[:, None].repeat(1, 3, 1, 1)
    torch.onnx.export(loaded.network, (placed,), folder / "plain.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(folder / "plain.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: placed.numpy()})


def _print(work: int, rate: float, times: dict[str, float], outputs: dict[str, Outputs], console: Console) -> None:
    exact = outputs[str(REFERENCE)]
    table = Table(
        "engine", "ms/image", "fraction of the bf16 rate", "against eager float32", "greatest score difference"
    )
    for name, seconds in times.items():
        difference = (
            f"{np.abs(sigmoid(outputs[name].logits) - sigmoid(exact.logits)).max():.2g}" if name in outputs else ""
        )
        table.add_row(
            name,
            f"{seconds * 1000:.0f}",
            f"{work / rate / seconds:.2f}",
            f"{times[str(REFERENCE)] / seconds:.2f}x",
            difference,
        )
    console.print(table)
    best = min(map(str, _ENGINES), key=lambda name: times[name])
    console.print(
        f"{work / 1e9:.0f} GFLOP per image, {rate / 1e9:.0f} GFLOP/s in bfloat16 on {os.cpu_count()} cores: floor "
        f"{work / rate * 1000:.0f} ms\nfastest: {best}; fraction {work / rate / times[best]:.2f} (aim 0.8); against "
        f"plain OpenVINO bfloat16 {times['plain OpenVINO bfloat16'] / times[best]:.2f}x, against plain ONNX Runtime "
        f"{times['plain ONNX Runtime'] / times[best]:.2f}x (aim: not below 1)"
    )


if __name__ == "__main__":
    main()
