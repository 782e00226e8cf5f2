"""How a patient stands before the detector: distances, rotation, what the field covers, what shutters cut off.

Called by render.py.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.phantom.body import Body
from training.phantom.families import DetectorRanges
from training.phantom.geometry import Geometry
from training.phantom.truth import View

#: Share of images on which shutters leave an unexposed border.
_SHUTTERED = 0.3


@dataclass(frozen=True, eq=False)
class Collimation:
    #: bool [rows, columns]: False below a shutter; None when all is exposed.
    exposed: NDArray[np.bool_] | None
    #: Grey value of what is not, 0..1.
    grey: float


def draw_geometry(rng: np.random.Generator, body: Body, rows: int, columns: int, ranges: DetectorRanges) -> Geometry:
    """The narrower of both directions still shows most of the lungs."""
    view, torso, left = body.view, body.torso, body.left.lung
    if view is View.AP:
        distance = rng.uniform(*ranges.bedside_distance_mm)
        behind = torso.half_depth + torso.centre_z + rng.uniform(15, 60)
    else:
        distance = rng.uniform(*ranges.upright_distance_mm)
        inside = torso.half_depth - torso.centre_z if view is View.PA else torso.half_width
        behind = inside + rng.uniform(15, 50)
    magnification = distance / (distance - behind)
    size = body.scale**0.7
    wide = 2 * (left.depth if view is View.LATERAL else left.width)
    # Mostly tight, now and then wide.
    wide += (4 + 130 * rng.random() ** 1.5) * size
    tall = left.angle - left.apex + (10 + 120 * rng.random() ** 1.5) * size
    mm_per_pixel = max(wide / columns, tall / rows) * magnification
    spare = mm_per_pixel * rows - tall * magnification
    middle = 0.5 * (left.angle + left.apex) * magnification + rng.normal(-8 * size, 0.14 * spare + 9 * size)
    across = rng.normal(left.centre_z if view is View.LATERAL else 0, 13 * size)
    return Geometry(
        view=view,
        rows=rows,
        columns=columns,
        imager_mm_per_pixel=float(mm_per_pixel),
        source_to_detector_mm=float(distance),
        carina_to_detector_mm=float(behind),
        rotation_degrees=_limited(rng, 4.0, 11.0),
        tilt_degrees=_limited(rng, 3.0, 9.0) + (4.0 if view is View.AP else 0.0),
        turn_degrees=_limited(rng, 2.0, 7.0),
        middle_u=float(across),
        middle_v=float(middle),
        beam_u=float(across + rng.normal(0, 12)),
        beam_v=float(middle + rng.normal(0, 20)),
    )


def draw_collimation(rng: np.random.Generator, geometry: Geometry) -> Collimation:
    """Four shutters, now and then turned against the detector; most images show what is within them only."""
    if rng.random() >= _SHUTTERED:
        return Collimation(None, 0.0)
    rows, columns = geometry.rows, geometry.columns
    margins = np.where(rng.random(4) < 0.6, rng.uniform(0.004, 0.075, 4), -0.1)
    angle = math.radians(rng.normal(0, 1.5)) if rng.random() < 0.4 else 0.0
    y = (np.arange(rows, dtype=np.float32)[:, None] + 0.5) / rows - 0.5
    x = (np.arange(columns, dtype=np.float32)[None, :] + 0.5) / columns - 0.5
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    exposed = (u > margins[0] - 0.5) & (u < 0.5 - margins[1]) & (v > margins[2] - 0.5) & (v < 0.5 - margins[3])
    return Collimation(exposed, 0.0 if rng.random() < 0.8 else rng.uniform(0.0, 0.06))


def _limited(rng: np.random.Generator, deviation: float, most: float) -> float:
    return float(np.clip(rng.normal(0, deviation), -most, most))
