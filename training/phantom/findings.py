"""Which findings a phantom shows and how severe they are, each by its own rule; and when one counts as present.

Called by render.py: the plan is drawn before the body, because some findings change its shape.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.codes import Finding
from training.phantom.skeleton import Break
from training.phantom.truth import View

#: How often each finding is drawn in those who have any; they are independent of each other.
PREVALENCE = {
    Finding.PLEURAL_EFFUSION: 0.28,
    Finding.PNEUMOTHORAX: 0.16,
    Finding.CONSOLIDATION: 0.26,
    Finding.EDEMA: 0.14,
    Finding.FIBROSIS: 0.10,
    Finding.CARDIOMEGALY: 0.28,
    Finding.NODULE: 0.20,
    Finding.MASS: 0.10,
    Finding.ATELECTASIS: 0.18,
    Finding.EMPHYSEMA: 0.10,
    Finding.LUNG_OPACITY: 0.14,
    Finding.RIB_FRACTURE: 0.12,
    Finding.CLAVICLE_FRACTURE: 0.05,
    Finding.AORTIC_CALCIFICATION: 0.25,
}
#: Share of persons without any finding.
HEALTHY = 0.3
#: What a lateral view is not asked for: nothing of it would be seen, or not by its rule.
NOT_LATERAL = frozenset(
    {Finding.PNEUMOTHORAX, Finding.CARDIOMEGALY, Finding.RIB_FRACTURE, Finding.CLAVICLE_FRACTURE, Finding.EMPHYSEMA}
)

#: A finding is present where it is at least this large, mm2 in the adult (children: times their scale squared), ...
_LEAST_AREA = {
    Finding.PLEURAL_EFFUSION: 350.0,
    Finding.PNEUMOTHORAX: 500.0,
    Finding.CONSOLIDATION: 350.0,
    Finding.EDEMA: 800.0,
    Finding.FIBROSIS: 800.0,
    Finding.NODULE: 35.0,
    Finding.MASS: 600.0,
    Finding.ATELECTASIS: 60.0,
    Finding.LUNG_OPACITY: 350.0,
    Finding.RIB_FRACTURE: 20.0,
    Finding.CLAVICLE_FRACTURE: 20.0,
    Finding.AORTIC_CALCIFICATION: 12.0,
}
#: ... and where its contrast in the logarithm of the signal is at least so many times the noise of 1 mm2 around it.
LEAST_CONTRAST_TO_NOISE = 2.0
#: What ribs, vessels and texture add to the noise, in the logarithm of the signal.
_ANATOMICAL_NOISE = 0.018


@dataclass(frozen=True)
class Plan:
    """What is drawn; whether it is seen is found out on the image."""

    findings: frozenset[Finding]
    #: Right and left.
    effusion: tuple[bool, bool]
    pneumothorax: tuple[bool, bool]
    breaks: tuple[Break, ...]

    def has(self, finding: Finding) -> bool:
        return finding in self.findings


def draw_plan(rng: np.random.Generator, view: View, age_years: float) -> Plan:
    """Findings of one person; what only the old have is not drawn in the young."""
    findings = set()
    if rng.random() >= HEALTHY:
        findings = {finding for finding, share in PREVALENCE.items() if rng.random() < share}
    if view is View.LATERAL:
        findings -= NOT_LATERAL
    if age_years < 45:
        findings -= {Finding.AORTIC_CALCIFICATION, Finding.EMPHYSEMA}
    if age_years < 25:
        findings -= {Finding.FIBROSIS, Finding.MASS}
    if Finding.EMPHYSEMA in findings:
        # A small heart and empty lungs belong to it.
        findings -= {Finding.CARDIOMEGALY, Finding.EDEMA, Finding.FIBROSIS}
    breaks = []
    if Finding.RIB_FRACTURE in findings:
        sign = float(rng.choice([-1, 1]))
        first, healed = int(rng.integers(3, 9)), bool(rng.random() < 0.35)
        along = rng.uniform(0.25, 0.75)
        for number in range(first, min(10, first + int(rng.integers(1, 4)))):
            breaks.append(
                Break(sign, number, along + rng.normal(0, 0.03), rng.choice([-1, 1]) * rng.uniform(2.5, 7), healed)
            )
    if Finding.CLAVICLE_FRACTURE in findings:
        # Four of five break in the middle third.
        middle = rng.random() < 0.8
        along = rng.uniform(0.36, 0.62) if middle else rng.uniform(0.68, 0.85)
        breaks.append(Break(float(rng.choice([-1, 1])), 0, along, rng.uniform(4, 13), bool(rng.random() < 0.25)))
    return Plan(
        findings=frozenset(findings),
        effusion=_sides(rng, Finding.PLEURAL_EFFUSION in findings, both=0.35),
        pneumothorax=_sides(rng, Finding.PNEUMOTHORAX in findings, both=0.0),
        breaks=tuple(breaks),
    )


def is_visible(
    finding: Finding,
    mask: NDArray[np.bool_],
    change: NDArray[np.float32],
    noise: NDArray[np.float32],
    mm_per_pixel: float,
    scale: float,
) -> bool:
    """Whether a drawn finding counts as present: large enough and with enough contrast.

    `change` is what it changes in the logarithm of the signal (scatter counted), `noise` that of 1 mm2 there, both
    float32 [rows, columns] as `mask`; `scale` is the person's length relative to an adult's.
    """
    area = float(mask.sum()) * mm_per_pixel**2
    if area < _LEAST_AREA.get(finding, 0.0) * scale**2:
        return False
    contrast = float(np.abs(change[mask]).mean())
    quantum = float(noise[mask].mean())
    return contrast >= LEAST_CONTRAST_TO_NOISE * math.hypot(quantum, _ANATOMICAL_NOISE)


def _sides(rng: np.random.Generator, affected: bool, both: float) -> tuple[bool, bool]:
    if not affected:
        return (False, False)
    if rng.random() < both:
        return (True, True)
    right = bool(rng.random() < 0.5)
    return (right, not right)
