"""torch itself: eager in float32 or bfloat16 on any device, compiled with CUDA graphs on CUDA devices."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workers.backends.backend import Outputs
from workers.backends.graph import GraphOutput


class TorchBackend:
    """Takes over the network in `graph`, whose weights it moves and may convert.

    Parameters
    ----------
    graph
        Gives `GraphOutput` for float32 [B, side, side] in 0..1, in evaluation mode.
    precision
        "bfloat16": matrix products and convolutions in it (autocast), norms and sums of residuals in float32.
    compiled
        With torch.compile and CUDA graphs; batches are filled up to powers of two, so that few shapes are compiled.
    """

    name = "torch"

    def __init__(self, graph: nn.Module, device: str, precision: str, compiled: bool = False) -> None:
        self.precision = precision
        self._device = torch.device(device)
        self._compiled = compiled
        if precision == "bfloat16":
            _convert_weights(graph)
        else:
            # What torch calls float32 on a CUDA device is TF32 in convolutions, unless it is told.
            torch.backends.cudnn.allow_tf32 = False
        graph = graph.to(self._device)
        self._compute: Callable[[Tensor], GraphOutput] = graph
        if compiled:
            self._compute = torch.compile(graph, mode="reduce-overhead", dynamic=False)
        cuda = self._device.type == "cuda"
        self._copies = torch.cuda.Stream(self._device) if cuda else None  # type: ignore[no-untyped-call]

    def warm_up(self, largest_batch: int, size: int) -> None:
        """Compile every batch that may come; nothing to do for an eager network."""
        batch = 1
        while self._compiled:
            self.launch(np.zeros((min(batch, largest_batch), size, size), np.float32))()
            if batch >= largest_batch:
                return
            batch *= 2

    def launch(self, images: NDArray[np.float32]) -> Callable[[], Outputs]:
        """See `Backend.launch`."""
        if self._copies is None:
            outputs = _outputs(*self._forward(torch.from_numpy(images)))
            return lambda: outputs
        return self._launch_on_cuda(torch.from_numpy(images), self._copies)

    def _launch_on_cuda(self, images: Tensor, copies: torch.cuda.Stream) -> Callable[[], Outputs]:
        count = len(images)
        with torch.cuda.device(self._device):
            pinned = images.pin_memory()
            # Beside what the device is at; only the computation itself waits for the one before.
            with torch.cuda.stream(copies):
                placed = pinned.to(self._device, non_blocking=True)
            compute = torch.cuda.current_stream()
            compute.wait_stream(copies)
            placed.record_stream(compute)
            host = []
            for tensor in self._forward(placed):
                host.append(torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True))
                host[-1].copy_(tensor, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()

        def finish() -> Outputs:
            done.synchronize()
            return _outputs(*(tensor[:count] for tensor in host))

        return finish

    def _forward(self, images: Tensor) -> list[Tensor]:
        if self._compiled:
            missing = (1 << (len(images) - 1).bit_length()) - len(images)
            images = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
        enabled = self.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=enabled):
            return [tensor.float() for tensor in self._compute(images)]


def _convert_weights(graph: nn.Module) -> None:
    """Convert once what autocast would convert in every pass."""
    for module in graph.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(torch.bfloat16)


def _outputs(logits: Tensor, attention: Tensor, dense: Tensor) -> Outputs:
    return Outputs(logits.numpy(), attention.numpy(), dense.numpy())
