"""Where the thorax lies on the detector: thorax millimetres to image pixels and back."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pose:
    """A similarity transform: the thorax origin (carina) lands on (`carina_x`, `carina_y`) pixels, turned clockwise."""

    carina_x: float
    carina_y: float
    #: Radians.
    rotation: float
    mm_per_pixel: float

    def to_pixels(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Thorax mm [..., 2] to image pixel coordinates float32 [..., 2]."""
        cos, sin = math.cos(self.rotation), math.sin(self.rotation)
        turned = points @ np.array([[cos, sin], [-sin, cos]])
        pixels = turned / self.mm_per_pixel + np.array([self.carina_x, self.carina_y])
        return np.asarray(pixels, dtype=np.float32)

    def pixel_to_thorax(self) -> NDArray[np.float64]:
        """float64 [2, 3]: (x pixel, y pixel, 1) to thorax mm."""
        cos, sin = math.cos(self.rotation), math.sin(self.rotation)
        linear = self.mm_per_pixel * np.array([[cos, sin], [-sin, cos]])
        offset = -linear @ np.array([self.carina_x, self.carina_y])
        return np.concatenate([linear, offset[:, None]], axis=1)
