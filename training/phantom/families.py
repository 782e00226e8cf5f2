"""The two families of phantoms side by side, as data: what is trained on, and what only ever tests.

Called by body.py and whoever draws appearance: each takes the ranges of its family. Every frozen patient lies outside
of the training family by girth, every frozen detector by dose and by blur; other ranges of the two overlap.
"""

from dataclasses import dataclass
from typing import NamedTuple

from training.phantom.truth import Family


class Range(NamedTuple):
    low: float
    high: float

    def at(self, share: float) -> float:
        """The value that `share` (0..1) of the range lies below."""
        return self.low + (self.high - self.low) * share


class Wings(NamedTuple):
    """What lies on both sides of the training family's range, which itself is left out."""

    below: Range
    above: Range

    def at(self, share: float) -> float:
        """The value that `share` (0..1) of both lengths together lies below."""
        first = self.below.high - self.below.low
        second = self.above.high - self.above.low
        along = share * (first + second)
        return self.below.low + along if along <= first else self.above.low + (along - first)


@dataclass(frozen=True)
class BodyRanges:
    """Habitus. Two standard deviations reach the limits."""

    #: Share of persons below 16 years.
    children: float
    #: Length and perimeter of the thorax relative to the mean of age and sex.
    stature: Range
    girth: Range | Wings
    #: Depth over width relative to the mean of the age.
    roundness: Range
    #: Subcutaneous fat at the flank, mm.
    fat_mm: Range
    #: Before supine position takes its share.
    inspiration: Range
    #: Without cardiomegaly.
    cardiothoracic_ratio: Range


BODIES = {
    Family.TRAINING: BodyRanges(
        children=0.22,
        stature=Range(0.90, 1.12),
        girth=Range(0.88, 1.12),
        roundness=Range(0.86, 1.14),
        fat_mm=Range(6, 42),
        inspiration=Range(0.2, 1.0),
        cardiothoracic_ratio=Range(0.38, 0.50),
    ),
    Family.FROZEN: BodyRanges(
        children=0.22,
        stature=Range(0.86, 1.07),
        girth=Wings(Range(0.78, 0.87), Range(1.13, 1.26)),
        roundness=Range(0.94, 1.24),
        fat_mm=Range(14, 60),
        inspiration=Range(0.1, 0.85),
        cardiothoracic_ratio=Range(0.40, 0.51),
    ),
}


@dataclass(frozen=True)
class DetectorRanges:
    """Exposure and detector."""

    #: Distance Source to Detector, mm: PA and lateral, and AP at the bedside.
    upright_distance_mm: Range
    bedside_distance_mm: Range
    #: log10 of quanta per mm2 without a patient, weighted by their energy.
    dose: Range | Wings
    #: Scattered over primary radiation behind the mean patient: with a grid little, at the bedside more.
    scatter: Range
    #: Blur of the detector, standard deviation in mm.
    blur_mm: Range | Wings
    #: Share of the higher energies: a harder beam shows less bone.
    hardness: Range


DETECTORS = {
    Family.TRAINING: DetectorRanges(
        upright_distance_mm=Range(1400, 1850),
        bedside_distance_mm=Range(950, 1350),
        dose=Range(5.2, 6.2),
        scatter=Range(0.25, 1.1),
        blur_mm=Range(0.08, 0.26),
        hardness=Range(0.42, 0.72),
    ),
    Family.FROZEN: DetectorRanges(
        upright_distance_mm=Range(1500, 2000),
        bedside_distance_mm=Range(1000, 1250),
        dose=Wings(Range(4.6, 5.15), Range(6.25, 6.6)),
        scatter=Range(0.45, 1.4),
        blur_mm=Wings(Range(0.02, 0.07), Range(0.28, 0.42)),
        hardness=Range(0.50, 0.80),
    ),
}


@dataclass(frozen=True)
class Vendor:
    """One maker's way from the detector's signal to the picture."""

    name: str
    #: Gain of structures of about 1, 3, 10 and 30 mm; 1 leaves them as they are.
    gains: tuple[Range, Range, Range, Range]
    #: What is left of the differences between large areas.
    latitude: Range
    #: Strong edges are held back above this difference (natural logarithm of the signal).
    edge_limit: float
    #: How far the display curve bends towards white: 1 is a straight line.
    shoulder: Range
    #: The grey value (0..1) on which the lungs' mean comes to lie, and the median of the heart.
    lung_grey: Range
    dense_grey: Range
    #: The grey value of what is not attenuated at all.
    black: Range


VENDORS = {
    Family.TRAINING: (
        Vendor(
            name="plain",
            gains=(Range(1.0, 1.5), Range(0.95, 1.2), Range(0.95, 1.0), Range(1.0, 1.0)),
            latitude=Range(0.85, 1.0),
            edge_limit=9.0,
            shoulder=Range(1.4, 3.0),
            lung_grey=Range(0.30, 0.62),
            dense_grey=Range(0.62, 0.82),
            black=Range(0.0, 0.08),
        ),
        Vendor(
            name="unsharp",
            gains=(Range(1.1, 1.9), Range(1.1, 1.6), Range(1.0, 1.25), Range(0.95, 1.0)),
            latitude=Range(0.7, 0.95),
            edge_limit=0.8,
            shoulder=Range(1.3, 2.4),
            lung_grey=Range(0.32, 0.58),
            dense_grey=Range(0.60, 0.79),
            black=Range(0.0, 0.10),
        ),
        Vendor(
            name="multi-scale",
            gains=(Range(1.2, 2.1), Range(1.2, 1.9), Range(1.1, 1.5), Range(0.95, 1.15)),
            latitude=Range(0.5, 0.8),
            edge_limit=0.35,
            shoulder=Range(1.2, 2.0),
            lung_grey=Range(0.34, 0.60),
            dense_grey=Range(0.58, 0.77),
            black=Range(0.0, 0.12),
        ),
    ),
    Family.FROZEN: (
        Vendor(
            name="film",
            gains=(Range(0.7, 0.95), Range(0.9, 1.05), Range(1.0, 1.0), Range(1.0, 1.0)),
            latitude=Range(0.9, 1.05),
            edge_limit=9.0,
            shoulder=Range(2.4, 4.5),
            lung_grey=Range(0.26, 0.50),
            dense_grey=Range(0.66, 0.85),
            black=Range(0.0, 0.04),
        ),
        Vendor(
            name="flat",
            gains=(Range(1.7, 2.5), Range(1.6, 2.2), Range(1.5, 2.0), Range(1.2, 1.5)),
            latitude=Range(0.42, 0.62),
            edge_limit=0.5,
            shoulder=Range(1.1, 1.5),
            lung_grey=Range(0.42, 0.62),
            dense_grey=Range(0.58, 0.72),
            black=Range(0.04, 0.14),
        ),
    ),
}
