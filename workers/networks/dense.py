"""The dense head: masks and landmark heat maps at stride 4 from patch tokens and the stem's skips."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.networks.features import Features

STRIDE = 4


class DenseHead(nn.Module):
    """Logits [B, channels, S / 4, S / 4].

    Parameters
    ----------
    features : channels of the joined patch tokens
    skip_channels : channels of the skips at stride 2, 4, 8, 16
    channels : maps to give, in the manifest's order
    width : channels of the decoder at stride 16; half and a quarter of it at stride 8 and 4
    """

    def __init__(self, features: int, skip_channels: tuple[int, ...], channels: int, width: int = 128) -> None:
        super().__init__()
        at2, at4, at8, at16 = skip_channels
        self.from_patches = nn.Linear(features, width)
        self.fuse16 = _fuse(width + at16, width)
        self.fuse8 = _fuse(width + at8, width // 2)
        # A tube's edge is finer than stride 4; its stage comes folded into channels.
        self.from_stride2 = nn.Conv2d(at2, width // 4, 3, stride=2, padding=1)
        self.fuse4 = _fuse(width // 2 + at4 + width // 4, width // 2)
        self.predict = nn.Conv2d(width // 2, channels, 1)
        # Most pixels belong to nothing: begin there.
        nn.init.constant_(self.predict.bias, -5.0)  # type: ignore[arg-type]

    def forward(self, features: Features) -> Tensor:
        at2, at4, at8, at16 = features.skips
        tokens = self.from_patches(torch.cat(features.patches, dim=2)).transpose(1, 2)
        feature = self.fuse16(torch.cat([tokens.reshape(at16.shape[0], -1, *at16.shape[2:]), at16], dim=1))
        feature = self.fuse8(torch.cat([_twice(feature), at8], dim=1))
        feature = self.fuse4(torch.cat([_twice(feature), at4, self.from_stride2(at2)], dim=1))
        maps: Tensor = self.predict(feature)
        return maps


def _fuse(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


def _twice(feature: Tensor) -> Tensor:
    return F.interpolate(feature, scale_factor=2.0, mode="bilinear", align_corners=False)
