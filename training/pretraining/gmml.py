"""Group masked model learning (Atito et al., arXiv 2205.14986), of which SPCXR (SS-CXR) is made: what rectangles hide,
or another image's pixels replace, is drawn anew.

    corrupted, changed = rectangles of noise, or of another image, over each view
    drawn = decoder(mean of blocks 6, 8, 10, 12 of encoder(corrupted))
    loss = mean over views, mean over changed pixels |drawn - view|
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from schemas.bundle import Architecture
from training.pretraining.draws import Draws
from training.pretraining.encoder import create_vit, encode, set_drop_path
from training.pretraining.group_masks import Corrupted, Corruption, corrupt
from training.pretraining.method import Loss, Method, MethodSettings, spread
from training.pretraining.schedule import Moment
from training.pretraining.views import View
from workers.networks.vit import PATCH, ViT


class GmmlSettings(MethodSettings):
    """By default as the public code has it."""

    kind: Literal["gmml"]
    view: View
    corruption: Corruption = Corruption()
    drop_path: float = 0.1

    @property
    def views(self) -> tuple[View, ...]:
        return (self.view,)


class PixelDecoder(nn.Module):
    """From patch tokens [B, N, width] to pixels [B, channels, S, S]; tensors have the published names."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Linear(width, width), nn.GELU()]
        self.mlp = nn.Sequential(*layers)
        self.convTrans = nn.ConvTranspose2d(width, channels, PATCH, stride=PATCH)

    def forward(self, patches: Tensor) -> Tensor:
        side = int(patches.shape[1] ** 0.5)
        cells = self.mlp(patches).transpose(1, 2).unflatten(2, (side, side))
        pixels: Tensor = self.convTrans(cells)
        return pixels


class Gmml(Method):
    """Encoder and pixel decoder for images of `side` pixels."""

    def __init__(self, settings: GmmlSettings, architecture: Architecture, side: int) -> None:
        super().__init__()
        self.settings = settings
        self.backbone: ViT = create_vit(architecture, side)
        set_drop_path(self.backbone, settings.drop_path, rising=True)
        self.head_recons = PixelDecoder(self.backbone.width, self.backbone.channels)
        # Every second block from the middle on: 6, 8, 10 and 12 of twelve.
        depth = len(self.backbone.blocks)
        self._read = [depth - 1 - 2 * back for back in range(3, -1, -1) if depth - 1 - 2 * back >= 0]

    @property
    def kept(self) -> ViT:
        return self.backbone

    def forward(self, views: Sequence[Tensor], draws: Draws, moment: Moment) -> Loss:
        errors, means = [], []
        for view in views:
            corrupted = corrupt(view, self.settings.corruption, draws)
            tokens = encode(self.backbone, corrupted.images, inner=self._read)
            patches = self.backbone.norm(torch.stack(tokens.inner).mean(dim=0))
            errors.append(pixel_error(self.head_recons(patches), view, corrupted))
            means.append(patches.mean(dim=1))
        return Loss({"reconstruction": torch.stack(errors).mean()}, {"feature_std": spread(torch.cat(means))})


def pixel_error(drawn: Tensor, view: Tensor, corrupted: Corrupted) -> Tensor:
    """Mean absolute difference over the changed pixels of all channels."""
    changed = corrupted.changed.expand_as(view)
    return (drawn.float() - view)[changed].abs().mean()
