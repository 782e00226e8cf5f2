"""From path lengths to the detector's signal: two energies that harden, scatter, quantum noise, blur.

Called by render.py; the same noise serves an image and its twins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.phantom.device_parts import MaterialLayers
from training.phantom.families import DetectorRanges
from training.phantom.resampling import blur

Field = NDArray[np.float32]

# Linear attenuation per mm at 50 and 80 keV from mass coefficients of Hubbell and Seltzer (NISTIR 5632): water;
# cortical bone (1.9 g/cm3) beyond the water that it replaces; PVC, barium-loaded PVC and steel.
_WATER = (0.0227, 0.0184)
_BONE = (0.0560, 0.0240)
_PLASTIC = (0.0400, 0.0220)
_RADIOPAQUE = (0.60, 0.20)
_METAL = (1.50, 0.47)


@dataclass(frozen=True)
class Exposure:
    """One exposure's numbers."""

    dose: float
    scatter: float
    blur_mm: float
    hardness: float

    def transmission(self, water: Field, bone: Field, devices: MaterialLayers | None) -> Field:
        """Share of the beam that passes, float32 [rows, columns] in 0..1; `water` and `bone` are mm."""
        total = np.zeros_like(water)
        for bin_, share in enumerate((1 - self.hardness, self.hardness)):
            attenuation = np.float32(_WATER[bin_]) * water + np.float32(_BONE[bin_]) * bone
            if devices is not None:
                attenuation += np.float32(_PLASTIC[bin_]) * devices.plastic
                attenuation += np.float32(_RADIOPAQUE[bin_]) * devices.radiopaque
                attenuation += np.float32(_METAL[bin_]) * devices.metal
            np.negative(attenuation, out=attenuation)
            np.exp(attenuation, out=attenuation)
            total += np.float32(share) * attenuation
        return total

    def detect(self, transmission: Field, noise: Field, mm_per_pixel: float) -> Field:
        """The signal with scatter, noise and blur; 1 is what arrives beside the patient. `noise` is unit normal."""
        # Scatter is made where the beam loses most in passing: in the lungs and at the skin, not beside the patient.
        scatter = blur(transmission * (1 - transmission), 26 / mm_per_pixel)
        signal = transmission + np.float32(self.scatter) * scatter
        # Quantum noise: its variance follows the signal; dose is per mm2, so small pixels are noisier.
        quanta = np.float32(self.dose * mm_per_pixel**2)
        signal += np.sqrt(signal / quanta) * noise
        sigma = self.blur_mm / mm_per_pixel
        if sigma > 0.15:
            signal = blur(signal, sigma)
        return np.maximum(signal, np.float32(1e-5))


def draw_exposure(rng: np.random.Generator, ranges: DetectorRanges, age_years: float = 40.0) -> Exposure:
    """Children are exposed at a lower tube voltage, so their bones show more, and scatter less."""
    adult = min(1.0, age_years / 16)
    return Exposure(
        dose=10 ** ranges.dose.at(rng.random()),
        scatter=rng.uniform(*ranges.scatter) * (0.5 + 0.5 * adult),
        blur_mm=ranges.blur_mm.at(rng.random()),
        hardness=rng.uniform(*ranges.hardness) * (0.45 + 0.55 * adult),
    )
