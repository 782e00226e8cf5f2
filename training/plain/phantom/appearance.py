"""From attenuation to a processed radiograph: scatter, noise, blur, vendor-like contrast and display curve."""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2
from scipy.ndimage import gaussian_filter, zoom


def texture(
    rng: np.random.Generator, rows: int, columns: int, mm_per_pixel: float, power: float
) -> NDArray[np.float32]:
    """Noise with amplitude 1/f**power, zero mean and unit variance, float32 [rows, columns], coarser than 0.8 mm."""
    step = max(1, int(0.8 / mm_per_pixel))
    height, width = -(-rows // step), -(-columns // step)
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.rfftfreq(width)[None, :]
    # Structures wider than 80 mm would change the anatomy.
    floor = mm_per_pixel * step / 80.0
    amplitude = (fy * fy + fx * fx + floor * floor) ** (-power / 2)
    amplitude[0, 0] = 0
    phase = rng.standard_normal((2, *amplitude.shape), dtype=np.float32)
    field = irfft2((phase[0] + 1j * phase[1]) * amplitude.astype(np.float32), s=(height, width), workers=1)
    field = np.asarray(field / field.std(), dtype=np.float32)
    if step > 1:
        field = np.asarray(zoom(field, step, order=1)[:rows, :columns], dtype=np.float32)
    return field


def develop(rng: np.random.Generator, attenuation: NDArray[np.float32], mm_per_pixel: float) -> NDArray[np.float32]:
    """A displayed radiograph float32 [rows, columns] in 0..1 from -log(primary transmission)."""
    primary = np.exp(-attenuation)
    scatter = _coarse_blur(primary, 28 / mm_per_pixel) * rng.uniform(0.3, 0.9)
    signal = primary + scatter
    # Quantum noise at the detector: its variance follows the signal. The dose is per mm^2, so small pixels are noisier.
    dose = 10 ** rng.uniform(4.3, 5.3) * mm_per_pixel**2
    signal += np.sqrt(signal / dose) * rng.standard_normal(signal.shape, dtype=np.float32)
    signal = gaussian_filter(signal, rng.uniform(0.15, 0.4) / mm_per_pixel)
    film = -np.log(np.maximum(signal, 1e-5))
    coarse = _coarse_blur(film, rng.uniform(18, 40) / mm_per_pixel)
    film = film + rng.uniform(0.0, 0.7) * (film - coarse)
    low, high = np.percentile(film[::4, ::4], [rng.uniform(0.5, 6), rng.uniform(97, 99.7)])
    scaled = (film - low) / max(high - low, 1e-3)
    slope = rng.uniform(3.0, 5.5)
    centre = rng.uniform(0.48, 0.68)
    curve = 1 / (1 + np.exp(-slope * (scaled - centre)))
    ends = 1 / (1 + np.exp(-slope * (np.array([0.0, 1.0]) - centre)))
    return np.asarray(np.clip((curve - ends[0]) / (ends[1] - ends[0]), 0, 1), dtype=np.float32)


def _coarse_blur(field: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """A wide Gaussian, computed on every n-th pixel because nothing fine survives it."""
    step = max(1, int(sigma / 3))
    small = gaussian_filter(field[::step, ::step], sigma / step, mode="nearest")
    rows, columns = field.shape
    wide = zoom(small, (rows / small.shape[0], columns / small.shape[1]), order=1, mode="nearest", grid_mode=True)
    return np.asarray(wide, dtype=np.float32)
