"""A second look that runs out of memory when it gets many crops, and that says nonsense of bright ones.

An engine process that is handed a `StrainedFolder` strains the network, in that process only.
"""

from pathlib import Path, PosixPath

import torch
from torch import Tensor

from workers.networks.second_look import SecondLook

#: More crops than this at once do not fit into memory.
FITTING = 2
#: Of a crop whose mean (0..1) is above it the logits are infinite.
BRIGHT = 0.7


class StrainedFolder(PosixPath):
    """The folder of any bundle with a second look; preprocessing has mean 0.5 and standard deviation 0.25."""

    def __reduce__(self) -> tuple[object, ...]:
        return _strained, (str(self),)


def _strained(folder: str) -> Path:
    """What a process that takes the folder over does first."""
    plain = SecondLook.forward

    def forward(network: SecondLook, crops: Tensor) -> Tensor:
        if len(crops) > FITTING:
            torch.empty(1 << 60, dtype=torch.uint8)
        logits = plain(network, crops)
        logits[crops.mean(dim=(1, 2, 3)) * 0.25 + 0.5 > BRIGHT] = torch.inf
        return logits

    SecondLook.forward = forward  # type: ignore[method-assign, assignment]
    return Path(folder)
