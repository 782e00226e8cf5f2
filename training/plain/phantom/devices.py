"""The endotracheal tube, and lines that are none: gastric tube, central line, ECG leads."""

import numpy as np
from numpy.typing import NDArray

from training.plain.phantom.airways import Airways
from training.plain.phantom.anatomy import Anatomy
from training.plain.phantom.chains import Chain, smooth_curve
from training.plain.phantom.truth import TubeChoice
from workers.tube_position import BORDERLINE_MM, NORMAL_RANGE_MM

#: Tip above the carina in mm that is drawn at all; below 0 the tip lies in a main bronchus.
DISTANCE_RANGE_MM = (-30.0, 110.0)
#: Share of phantoms with a tube when the choice is "any".
TUBE_SHARE = 0.6


def draw_distance(rng: np.random.Generator, choice: TubeChoice) -> float | None:
    """Tip-to-carina distance in mm (positive above the carina), or None for no tube."""
    low, high = NORMAL_RANGE_MM
    if choice == "absent" or (choice == "any" and rng.random() >= TUBE_SHARE):
        return None
    if choice == "well-placed":
        return float(rng.uniform(low + 3, high - 3))
    if choice == "malpositioned":
        in_bronchus = rng.random() < 0.6
        ends = (
            (DISTANCE_RANGE_MM[0], low - BORDERLINE_MM - 5)
            if in_bronchus
            else (high + BORDERLINE_MM + 5, DISTANCE_RANGE_MM[1])
        )
        return float(rng.uniform(*ends))
    # Most errors happen near the limits, so a good part of the tubes end there.
    if rng.random() < 0.3:
        return float(rng.choice([low, high]) + rng.uniform(-BORDERLINE_MM, BORDERLINE_MM))
    return float(rng.uniform(*DISTANCE_RANGE_MM))


def tube_course(rng: np.random.Generator, airways: Airways, distance_mm: float) -> NDArray[np.float64]:
    """Centre line float64 [points, 2] in thorax mm from above the larynx to the tip `distance_mm` above the carina."""
    line = airways.trachea
    if distance_mm < 0:
        bronchus = airways.right_bronchus if rng.random() < 0.8 else airways.left_bronchus
        line = np.concatenate([line, bronchus[1:]])
    rows = np.append(np.arange(line[0, 1], -distance_mm, 3.0), -distance_mm)
    # The tube lies against one wall or the other, but never outside the airway.
    sway = 0.3 * airways.trachea_radius * np.sin(rows / rng.uniform(45, 90) + rng.uniform(0, 6.3))
    return np.stack([np.interp(rows, line[:, 1], line[:, 0]) + sway, rows], axis=1)


def tube_chains(rng: np.random.Generator, course: NDArray[np.float64]) -> tuple[list[Chain], list[Chain]]:
    """The tube's plastic wall and its radiopaque stripe, which runs along one side to the tip."""
    outer = rng.uniform(4.6, 5.8)
    along = np.gradient(course, axis=0)
    normal = np.stack([along[:, 1], -along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    stripe = course + normal * outer * rng.uniform(-0.9, 0.9)
    return [Chain(course, outer, 0.74)], [Chain(stripe, rng.uniform(0.45, 0.75))]


def distractor_chains(rng: np.random.Generator, anatomy: Anatomy, airways: Airways) -> list[Chain]:
    """Lines that a reader must not take for an endotracheal tube; as dense as its stripe."""
    chains: list[Chain] = []
    if rng.random() < 0.35:
        chains.append(_gastric_tube(rng, anatomy, airways))
    if rng.random() < 0.35:
        chains.append(_central_line(rng))
    if rng.random() < 0.4:
        chains.extend(_ecg_leads(rng, anatomy))
    return chains


def _gastric_tube(rng: np.random.Generator, anatomy: Anatomy, airways: Airways) -> Chain:
    floor = anatomy.left.dome
    x = float(airways.trachea[30, 0]) + rng.uniform(-3, 9)
    knots = [(x, -260.0), (x, -120.0), (x + 6, -30.0), (7.0, 40.0), (16.0, floor - 10)]
    knots += [(45.0, floor + 25), (70.0, floor + 60), (40.0, floor + 85)]
    return Chain(smooth_curve(knots, 60), rng.uniform(0.7, 1.5), float(rng.choice([0.0, 0.6])))


def _central_line(rng: np.random.Generator) -> Chain:
    sign = -1.0 if rng.random() < 0.7 else 1.0
    end = (-24 + rng.normal(0, 3), rng.uniform(-20, 55))
    if rng.random() < 0.5:  # jugular
        knots = [(sign * 48, -260.0), (sign * 42, -150.0), (sign * 28, -80.0), (-23.0, -40.0), end]
    else:  # subclavian
        knots = [(sign * 125, -95.0), (sign * 80, -82.0), (sign * 35, -72.0), (-22.0, -45.0), end]
    return Chain(smooth_curve(knots, 48), rng.uniform(0.6, 1.1))


def _ecg_leads(rng: np.random.Generator, anatomy: Anatomy) -> list[Chain]:
    chains = []
    for _ in range(rng.integers(1, 4)):
        electrode = np.array([rng.uniform(-115, 115), rng.uniform(-70, 140)])
        chains.append(Chain(np.stack([electrode, electrode + 1.0]), rng.uniform(4, 7), 0.55))
        sign = 1.0 if rng.random() < 0.5 else -1.0
        ends = [
            (sign * rng.uniform(10, 170), -280.0),
            (sign * 240, rng.uniform(-60, 200)),
            (rng.uniform(-60, 60), 330.0),
        ]
        end = ends[rng.integers(3)]
        middle = (electrode + np.array(end)) / 2 + rng.normal(0, 28, 2)
        chains.append(Chain(smooth_curve([tuple(electrode), tuple(middle), end], 40), rng.uniform(0.4, 0.9)))
    return chains
