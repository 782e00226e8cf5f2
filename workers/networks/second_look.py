"""The network of the second look: course, tip and carina in a crop of fine pixels. Built by networks/network.py.

A small U-Net (Ronneberger et al., arXiv 1505.04597) of residual blocks: it has to see where a line ends within a few
centimetres, not what the chest is like, so that a convolutional network of a million weights is enough.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Crop pixels per cell of the output.
STRIDE = 4
#: A crop's side is a multiple of this: the coarsest level halves it five times.
MULTIPLE = 32


class SecondLook(nn.Module):
    """Logits [B, channels, S / 4, S / 4] for crops float32 [B, inputs, S, S], normalised as the whole images are.

    Parameters
    ----------
    inputs : channels of a crop
    channels : maps to give, in the manifest's order
    widths : channels at stride 2, 4, 8, 16 and 32
    """

    def __init__(self, inputs: int, channels: int, widths: Sequence[int] = (24, 40, 64, 96, 128)) -> None:
        super().__init__()
        self.stem = _Block(inputs, widths[0], stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(_Block(before, after, stride=2), _Residual(after)) for before, after in pairwise(widths)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(coarse, fine, 1, bias=False) for fine, coarse in pairwise(widths[1:]))
        self.up = nn.ModuleList(_Block(width, width) for width in widths[1:-1])
        self.predict = nn.Conv2d(widths[1], channels, 1)
        # Most pixels belong to nothing: begin there.
        nn.init.constant_(self.predict.bias, -5.0)  # type: ignore[arg-type]

    def forward(self, crops: Tensor) -> Tensor:
        feature = self.stem(crops)
        levels = []
        for down in self.down:
            feature = down(feature)
            levels.append(feature)
        for at in range(len(self.up) - 1, -1, -1):
            # Narrowed before it is enlarged, and added: a quarter of the work of joining them.
            feature = self.up[at](levels[at] + _twice(self.lateral[at](feature)))
        logits: Tensor = self.predict(feature)
        return logits


class _Block(nn.Sequential):
    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)
        )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _Block(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, feature: Tensor) -> Tensor:
        return torch.relu(feature + self.second(self.first(feature)))


def _twice(feature: Tensor) -> Tensor:
    return F.interpolate(feature, scale_factor=2.0, mode="bilinear", align_corners=False)
