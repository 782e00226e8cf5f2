"""From the detector's signal to the picture that a maker's software shows: multi-scale contrast, window, curve.

Called by render.py; what was measured on an image (the window) serves its twins too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.phantom.families import Vendor
from training.phantom.resampling import blur

Field = NDArray[np.float32]

#: Widths of the bands in mm; what is wider is the base.
_SCALES_MM = (1.0, 3.0, 10.0, 30.0)

#: Lungs full of fluid must not drive the contrast up without end: least difference in density between both greys.
_LEAST_SPAN = 0.85


@dataclass(frozen=True)
class Processing:
    """One picture's settings."""

    gains: tuple[float, float, float, float]
    latitude: float
    edge_limit: float
    shoulder: float
    lung_grey: float
    dense_grey: float
    black: float

    def enhance(self, signal: Field, mm_per_pixel: float) -> Field:
        """Density (bone large) float32 [rows, columns] with each band's gain."""
        density = -np.log(signal)
        base = density
        bands = []
        for scale in _SCALES_MM:
            coarser = blur(base, scale / mm_per_pixel / 1.5)
            bands.append(base - coarser)
            base = coarser
        middle = np.float32(base[::8, ::8].mean())
        out = middle + np.float32(self.latitude) * (base - middle)
        limit = np.float32(self.edge_limit)
        for band, gain in zip(bands, self.gains, strict=True):
            # Strong edges (body outline, metal) keep their own height, weak ones are raised.
            out += band * (1 + np.float32(gain - 1) / (1 + (band / limit) ** 2))
        return out

    def window(self, enhanced: Field, lungs: NDArray[np.bool_], dense: NDArray[np.bool_]) -> "Window":
        """What the picture is shown with: lungs and dense parts come to lie on their grey values."""
        low = float(np.mean(enhanced[lungs])) if lungs.any() else float(np.percentile(enhanced, 25))
        high = float(np.median(enhanced[dense])) if dense.any() else float(np.percentile(enhanced, 95))
        return Window(low, max(high, low + _LEAST_SPAN), self)


@dataclass(frozen=True)
class Window:
    lung: float
    dense: float
    processing: Processing

    def show(self, enhanced: Field) -> Field:
        """The picture, float32 [rows, columns] in 0..1."""
        # 1 - (1 - s) ** shoulder, with s straight in density: dense parts are pressed together as on film.
        settings = self.processing
        low, high = (1 - (1 - grey) ** (1 / settings.shoulder) for grey in (settings.lung_grey, settings.dense_grey))
        slope = (high - low) / (self.dense - self.lung)
        rest = np.float32(1 - low + slope * self.lung) - np.float32(slope) * enhanced
        np.clip(rest, 0, 1, out=rest)
        return np.asarray(1 - np.float32(1 - settings.black) * rest ** np.float32(settings.shoulder), dtype=np.float32)


def draw_processing(rng: np.random.Generator, vendors: tuple[Vendor, ...]) -> Processing:
    vendor = vendors[rng.integers(len(vendors))]
    # One strength for all bands: a maker's preset is weak or strong as a whole.
    strength = rng.random()
    first, second, third, fourth = (low + strength * (high - low) for low, high in vendor.gains)
    lung_grey = rng.uniform(*vendor.lung_grey)
    return Processing(
        gains=(first, second, third, fourth),
        latitude=rng.uniform(*vendor.latitude),
        edge_limit=vendor.edge_limit,
        shoulder=rng.uniform(*vendor.shoulder),
        lung_grey=lung_grey,
        dense_grey=max(rng.uniform(*vendor.dense_grey), lung_grey + 0.12),
        black=rng.uniform(*vendor.black),
    )
