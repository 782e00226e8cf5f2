"""OpenVINO on the CPU, in float32 or bfloat16: the fastest there for transformers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from workers.backends.converted import ConvertedBackend, converted_model
from workers.backends.openvino_runtime import openvino
from workers.backends.part import Part
from workers.devices import available_cores


class OpenVINOBackend(ConvertedBackend):
    """Raises RuntimeError when this CPU has no instructions for the precision."""

    name = "openvino"

    def __init__(self, part: Part, precision: str) -> None:
        super().__init__(part)
        self.precision = precision
        core = openvino.Core()
        if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise RuntimeError("this CPU has no instructions for bfloat16")
        wanted = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": available_cores(),
            # Other engines and the processes that decode use the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        kind = f"openvino-{openvino.get_version().split('-')[0]}"
        with converted_model(part, kind, "model.xml", _convert) as path:
            compiled = core.compile_model(path, "CPU", wanted)
        self._request = compiled.create_infer_request()

    def _infer(self, image: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        outputs: list[NDArray[np.float32]] = list(self._request.infer([image]).values())
        return outputs


def _convert(module: nn.Module, example: Tensor, path: Path) -> None:
    model = openvino.convert_model(module, example_input=example, input=[tuple(example.shape)])
    openvino.save_model(model, path, compress_to_fp16=False)
