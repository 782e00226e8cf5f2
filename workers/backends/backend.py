"""What an engine process asks of whatever computes the network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Outputs:
    """Of n images, all float32."""

    #: [n, K]
    logits: NDArray[np.float32]
    #: [n, K, h, w], mean over heads; each map sums to 1. K = 0 where the head looks nowhere.
    attention: NDArray[np.float32]
    #: [n, C, H, W]; [n, 0, 1, 1] without a dense head.
    dense: NDArray[np.float32]


class Backend(Protocol):
    """A network on a device."""

    #: "torch", "openvino" or "onnxruntime".
    name: str
    #: "float32" or "bfloat16".
    precision: str

    def launch(self, images: NDArray[np.float32]) -> Callable[[], Outputs]:
        """Begin to compute placed images, float32 [n, S, S] in 0..1; what is returned waits for the outputs.

        The caller may change `images` as soon as this returns. On a CPU the work is done by then.
        """
