"""ONNX Runtime on the CPU, in float32."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workers.backends.converted import ConvertedBackend, converted_model
from workers.backends.part import Part
from workers.devices import available_cores


class ONNXRuntimeBackend(ConvertedBackend):
    """Exporting needs onnx and onnxscript as well."""

    name = "onnxruntime"
    precision = "float32"

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        # Threads that spin while they wait take the cores that decode the next image.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with converted_model(part, f"onnxruntime-{onnxruntime.__version__}", "model.onnx", _convert) as path:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def _infer(self, image: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        outputs: list[NDArray[np.float32]] = self._session.run(None, {self._input: np.ascontiguousarray(image)})
        return outputs


def _convert(module: nn.Module, example: Tensor, path: Path) -> None:
    # It warns of every node that it leaves as it is.
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    torch.onnx.export(module, (example,), path, dynamo=True, verbose=False)
