"""Views of radiographs for self-supervision: crops and changed greys, a whole batch at once, on any device.

What a view is, a recipe says; called by the trainer. Images are one grey channel, so that colour jitter is brightness
and contrast alone (hue, saturation and "grey with p = 0.2" of the published recipes do nothing to a grey image).
"""

import math
from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from training.pretraining.draws import Draws

_Share = Annotated[float, Field(ge=0, le=1)]

#: Uniform draws that each image spends on one view, whatever the view uses of them: then a view's settings change
#: nothing of the views that follow it.
_DRAWS = 24
_BLUR_TAPS = 9


class View(BaseModel):
    """How a view is made. Probabilities of 0 leave a step out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: How many such views an image gives.
    count: Annotated[int, Field(ge=1)] = 1
    #: Share of the image's area that the crop takes, and the crop's width to height (torchvision's RandomResizedCrop).
    scale: tuple[_Share, _Share] = (1.0, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    #: Mirrored left to right. Sides matter on a chest: a published recipe that mirrors says so in its file.
    flip: _Share = 0.0
    #: Moved, scaled and turned by up to so much, of the side, of 1, in degrees.
    move: _Share = 0.0
    moved_by: float = 0.0625
    scaled_by: float = 0.2
    turned_by: float = 10.0
    #: Barrel or pincushion, of the radius at the border.
    distort: _Share = 0.0
    distorted_by: float = 0.05
    #: Factors 1 - b .. 1 + b of all greys, and of their distance from the mean.
    jitter: _Share = 0.0
    brightness: float = 0.4
    contrast: float = 0.4
    #: Gaussian, in pixels of the view.
    blur: _Share = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    sharpen: _Share = 0.0
    sharpened_by: float = 0.5
    #: Of half of the images added, of the other half multiplied.
    noise: _Share = 0.0
    noise_std: float = 0.07
    #: Greys of 0.5 and more are inverted.
    solarize: _Share = 0.0

    def of(self, images: Tensor, size: int, draws: Draws) -> Tensor:
        """One view of each image: float32 [B, 1, size, size] in 0..1 of float32 [B, 1, H, W] in 0..1."""
        # What is drawn stays on the CPU, where it decides what is computed: a GPU is never waited for.
        u = draws.uniform(_DRAWS).unbind(dim=1)
        noise = draws.normal(size, size) if self.noise else None
        seen = self._placed(images, size, u[:12])
        seen = _changed(seen, u[12] < self.jitter, self._jittered, u[13], u[14])
        seen = _changed(seen, u[15] < self.blur, _blurred, _between(u[16], self.blur_sigma))
        seen = _changed(seen, u[17] < self.sharpen, _sharpened, self.sharpened_by * u[18])
        if noise is not None:
            seen = _changed(seen, u[19] < self.noise, _noisy, self.noise_std * noise, u[20])
        seen = _changed(seen, u[21] < self.solarize, _solarized)
        return seen.clamp(0, 1)

    @staticmethod
    def whole(images: Tensor, size: int) -> Tensor:
        """The images as they are, float32 [B, 1, size, size]."""
        if images.shape[-1] == size:
            return images
        return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)

    def _placed(self, images: Tensor, size: int, u: tuple[Tensor, ...]) -> Tensor:
        whole = self.scale == (1.0, 1.0) and not (self.flip or self.move or self.distort)
        if whole:
            return self.whole(images, size)
        theta, shrink = self._theta(u, images.shape[-1] / size)
        seen = images.new_empty(len(images), 1, size, size)
        # Of a picture halved so often that a step of the view is about one of its pixels: nothing is skipped.
        levels = torch.log2(shrink).round().clamp(min=0, max=math.log2(images.shape[-1] / 8)).int()
        for level in torch.unique(levels).tolist():
            rows = (levels == level).nonzero().flatten()
            here = rows.to(images.device)
            reduced = F.avg_pool2d(images[here], 2**level) if level else images[here]
            grid = F.affine_grid(theta[rows].to(images.device), [len(rows), 1, size, size], align_corners=False)
            if self.distort:
                amount = torch.where(u[8] < self.distort, (2 * u[9] - 1) * self.distorted_by, 0.0)[rows]
                grid = _distorted(grid, amount.to(images.device))
            seen[here] = F.grid_sample(reduced, grid, mode="bicubic", align_corners=False)
        return seen.clamp(0, 1)

    def _theta(self, u: tuple[Tensor, ...], reduction: float) -> tuple[Tensor, Tensor]:
        """From the view to the image in normalised coordinates [B, 2, 3], and image pixels per view pixel [B]."""
        area, (least, most) = _between(u[0], self.scale), self.aspect
        aspect = torch.exp(_between(u[1], (math.log(least), math.log(most))))
        if self.scale[0] == 1.0:
            aspect = torch.ones_like(aspect)
        # A crop longer than the image is cut to it, as RandomResizedCrop does when it finds no other.
        width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
        x, y = (2 * u[2] - 1) * (1 - width), (2 * u[3] - 1) * (1 - height)
        mirrored = torch.where(u[4] < self.flip, -1.0, 1.0)
        moved = (u[5] < self.move).float()
        angle = moved * (2 * u[6] - 1) * math.radians(self.turned_by)
        grown = 1 + moved * (2 * u[7] - 1) * self.scaled_by
        across, down = u[10], u[11]
        x, y = x + moved * (2 * across - 1) * 2 * self.moved_by, y + moved * (2 * down - 1) * 2 * self.moved_by
        cos, sin = torch.cos(angle) / grown, torch.sin(angle) / grown
        across_row = torch.stack([width * mirrored * cos, -height * sin, x], dim=1)
        down_row = torch.stack([width * mirrored * sin, height * cos, y], dim=1)
        return torch.stack([across_row, down_row], dim=1), (width * height).sqrt() / grown * reduction

    def _jittered(self, images: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
        by = 1 + (2 * brightness - 1)[:, None, None, None] * self.brightness
        images = (images * by).clamp(0, 1)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        spread = 1 + (2 * contrast - 1)[:, None, None, None] * self.contrast
        return ((images - mean) * spread + mean).clamp(0, 1)


def _between(u: Tensor, ends: tuple[float, float]) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * u


def _changed(images: Tensor, chosen: Tensor, change: Callable[..., Tensor], *by: Tensor) -> Tensor:
    """The images with those that are `chosen` [B] changed, each by its own values of `by` (each [B, ...])."""
    rows = chosen.nonzero().flatten()
    if not len(rows):
        return images
    changed = images.clone()
    here = rows.to(images.device)
    changed[here] = change(images[here], *(values[rows].to(images.device) for values in by))
    return changed


def _sharpened(images: Tensor, by: Tensor) -> Tensor:
    smooth = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    return images + by[:, None, None, None] * (images - smooth)


def _noisy(images: Tensor, noise: Tensor, kind: Tensor) -> Tensor:
    """With noise [B, S, S] added to half of them, and multiplied with the others."""
    added = (kind < 0.5)[:, None, None, None]
    return torch.where(added, images + noise[:, None], images * (1 + noise[:, None]))


def _solarized(images: Tensor) -> Tensor:
    return torch.where(images >= 0.5, 1 - images, images)


def _distorted(grid: Tensor, amount: Tensor) -> Tensor:
    """A grid [B, S, S, 2] drawn out by `amount` [B] of the radius squared."""
    return grid * (1 + amount[:, None, None, None] * grid.square().sum(dim=3, keepdim=True))


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian of `sigma` [B] pixels, each image with its own, over 9 x 9 pixels."""
    taps = torch.arange(_BLUR_TAPS, device=images.device) - _BLUR_TAPS // 2
    kernel = torch.exp(-(taps**2) / (2 * sigma[:, None] ** 2))
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    margin = _BLUR_TAPS // 2
    rows = F.pad(images.transpose(0, 1), (margin, margin, margin, margin), mode="reflect")
    rows = F.conv2d(rows, kernel[:, None, None, :], groups=len(images))
    return F.conv2d(rows, kernel[:, None, :, None], groups=len(images)).transpose(0, 1)
