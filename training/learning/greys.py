"""Greys of training images: other windows, sharpness, noise, compression, letters and bars, then stretched again.

What differs between two films of one patient, or two ways to store one film, and must decide nothing. Called by
training/learning/augment.py. Images are float32 [B, 1, h, w] in 0..1.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

#: Shares of the images that get bars, letters, and a lossy compression.
_BARRED, _WRITTEN, _COMPRESSED = 0.08, 0.15, 0.1


@dataclass(frozen=True)
class Window:
    """Other windows and curves: any monotonous change of the greys, clipped as a window clips. One per image."""

    #: [4, B, 1, 1, 1], -1..1.
    draw: Tensor

    @classmethod
    def random(cls, count: int, generator: torch.Generator) -> "Window":
        return cls(torch.rand(4, count, 1, 1, 1, generator=generator) * 2 - 1)

    def __call__(self, greys: Tensor) -> Tensor:
        """[B, 1, h, w] in 0..1."""
        curved = greys.clamp_min(1e-4) ** torch.exp(0.5 * self.draw[0])
        middle = 0.5 + 0.15 * self.draw[1]
        # Narrower than the film's own range: what lies outside of a window is lost.
        linear = ((curved - middle) * torch.exp(0.25 * self.draw[2]) + middle).clamp(0, 1)
        # From a linear to a sigmoid VOI LUT function.
        sigmoid = torch.sigmoid(4 * torch.exp(0.4 * self.draw[2]) * (curved - middle))
        share = self.draw[3].clamp_min(0)
        return (1 - share) * linear + share * sigmoid


def spoilt(images: Tensor, generator: torch.Generator) -> Tensor:
    """From slightly blurred to edge-enhanced, shaded, noisy, and now and then compressed as JPEG."""
    count, side = len(images), images.shape[-1]
    draw = torch.rand(4, count, 1, 1, 1, generator=generator) * 2 - 1
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    changed = images + 0.8 * draw[0] * (images - blurred)
    ramp = torch.linspace(-1, 1, side)
    changed = changed + 0.06 * draw[1] * ramp + 0.06 * draw[2] * ramp[:, None]
    noise = torch.randn(images.shape, generator=generator)
    changed = changed + 0.02 * draw[3].abs() * noise
    chosen = torch.rand(count, generator=generator) < _COMPRESSED
    quality = torch.randint(60, 96, (count,), generator=generator)
    for index in chosen.nonzero().flatten().tolist():
        changed[index, 0] = _compressed(changed[index, 0], int(quality[index]))
    return changed.clamp(0, 1)


def _compressed(image: Tensor, quality: int) -> Tensor:
    stream = io.BytesIO()
    eight_bit: NDArray[np.uint8] = (image.clamp(0, 1) * 255).round().byte().numpy()
    Image.fromarray(eight_bit).save(stream, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(stream), np.float32) / 255)


def with_burned_in(images: Tensor, film: Tensor, generator: torch.Generator) -> Tensor:
    """Black bars that nobody declared, and letters in corners, bright or inverted: what must decide nothing."""
    count, side = len(images), images.shape[-1]
    draw = torch.rand(count, 8, generator=generator).tolist()
    changed = images.clone()
    for index, (barred, axis, width, written, across, down, length, dark) in enumerate(draw):
        if barred < _BARRED:
            bar = round(side * (0.02 + 0.08 * width))
            across_rows = changed[index, 0] if axis < 0.5 else changed[index, 0].T
            across_rows[:bar] = 0
            across_rows[-bar:] = 0
        if written < _WRITTEN:
            height = max(6, round(side * 0.03))
            wide = min(side // 4, round(height * (1 + 5 * length)))
            top, left = _near_an_edge(down, side, height), _near_an_edge(across, side, wide)
            stamp = _letters(height, wide, generator)
            place = changed[index, 0, top : top + height, left : left + wide]
            place.copy_(torch.where(stamp, 1.0, 0.0 if dark < 0.5 else place))
    return changed * film


def _near_an_edge(draw: float, side: int, length: int) -> int:
    """Where something of this length begins, near either end of a side, by a draw of 0..1."""
    from_edge = int(0.24 * side * (draw % 0.5))
    return from_edge if draw < 0.5 else side - length - from_edge


def _letters(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Strokes on a grid of 5 x 3 per letter: bool [height, width]; no alphabet is needed to look like one."""
    letters = max(1, width // max(1, height // 2 + 1))
    strokes = torch.rand(1, 1, 5, 4 * letters, generator=generator) < 0.6
    strokes[..., 3::4] = False
    return F.interpolate(strokes.float(), size=(height, width), mode="nearest")[0, 0] > 0.5


def restretched(images: Tensor, film: Tensor) -> Tensor:
    """The 5th and the 95th percentile of the film to 0.05 and 0.95, as `Intensity.STRETCH`; beside it stays black."""
    step = max(1, images.shape[-1] // 96)
    sampled, inside = (each[:, 0, ::step, ::step].flatten(1) for each in (images, film))
    ends = torch.nanquantile(torch.where(inside > 0, sampled, math.nan), torch.tensor([0.05, 0.95]), dim=1)
    return _stretched(images, ends) * film


def restretched_crop(images: Tensor, window: Window, generator: torch.Generator) -> Tensor:
    """The same for a crop: of its whole film the percentiles are 0.05 and 0.95 before the window, and follow it."""
    ends = window(torch.tensor([0.05, 0.95]).expand(len(images), 1, 1, 2))[:, 0, 0].T
    # Bars and letters elsewhere on the film move them a little.
    return _stretched(images, ends + 0.03 * (torch.rand(ends.shape, generator=generator) * 2 - 1))


def _stretched(images: Tensor, ends: Tensor) -> Tensor:
    """`ends` [2, B]: the greys of each image that become 0.05 and 0.95."""
    low, high = ends[:, :, None, None, None]
    stretched: Tensor = (images - low) * (0.9 / (high - low).clamp_min(0.02)) + 0.05
    return stretched.clamp(0, 1)
