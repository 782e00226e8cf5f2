"""Outlines of torso and lungs as formulas in patient mm, for the whole image (numba) and for single points."""

import math
from typing import NamedTuple

import numba
import numpy as np


class LungShape(NamedTuple):
    """One lung. Lateral distances are measured outwards from the midline; all in mm."""

    sign: float  # -1 right, 1 left
    apex: float  # y of the top
    dome: float  # y of the top of the hemidiaphragm
    drop: float  # from the dome down to the lateral costophrenic angle
    apex_x: float  # lateral distance of the top
    width: float  # greatest lateral distance
    medial: float  # least lateral distance, before mediastinum and heart take their place
    centre_z: float
    depth: float  # half the greatest depth
    back_drop: float  # from the dome down to the posterior recess
    squareness: float  # exponent of the outline in the transverse plane: 2 is an ellipse
    bulge: float  # exponent of the outline of the side: larger is more barrel-shaped
    scale: float  # lengths along the body, relative to a mean adult

    @property
    def angle(self) -> float:
        """y of the lateral costophrenic angle."""
        return self.dome + self.drop


class TorsoShape(NamedTuple):
    """Outline of the body, in mm."""

    half_width: float
    half_depth: float
    centre_z: float
    shoulder: float  # y of the shoulder line beside the neck
    shoulder_slope: float  # mm down per mm outwards
    neck_half_width: float
    belly: float  # growth of the depth per length below the dome
    breast: float  # greatest thickness of a breast, 0 for none
    breast_x: float
    breast_y: float
    breast_radius: float
    scale: float


@numba.njit(cache=True, fastmath=True)
def lateral_border(lung, y):  # type: ignore[no-untyped-def]
    """Lateral distance of the chest wall at height y; 0 above the apex."""
    if y <= lung.apex:
        return 0.0
    u = min(1.0, (y - lung.apex) / (0.80 * (lung.dome + lung.drop - lung.apex)))
    side = (1.0 - (1.0 - u) ** lung.bulge) ** 0.52
    return lung.apex_x + (lung.width - lung.apex_x) * side


@numba.njit(cache=True, fastmath=True)
def lateral_borders(lung, levels):  # type: ignore[no-untyped-def]
    """The same for many heights, float64 [levels]."""
    return np.array([lateral_border(lung, level) for level in levels])


@numba.njit(cache=True, fastmath=True)
def medial_border(lung, y):  # type: ignore[no-untyped-def]
    """Lateral distance of the inner side at height y."""
    u = min(1.0, max(0.0, (y - lung.apex) / (52.0 * lung.scale)))
    return lung.apex_x - (lung.apex_x - lung.medial) * math.sqrt(1.0 - (1.0 - u) ** 2)


@numba.njit(cache=True, fastmath=True)
def half_depth(torso, x, y):  # type: ignore[no-untyped-def]
    """Half the body's depth above (x, y); 0 beside the body. Shoulders slope, the neck stands on them."""
    away = abs(x)
    beside = max(0.0, away - 0.8 * torso.neck_half_width)
    # The trapezius muscle rises to the neck.
    near = math.exp(-beside / (24.0 * torso.scale))
    edge = torso.shoulder + torso.shoulder_slope * beside - 42.0 * torso.scale * near
    depth = 0.0
    if y > edge:
        u = away / torso.half_width
        if u < 1.0:
            rise = min(1.0, (y - edge) / ((34.0 + 60.0 * near) * torso.scale))
            depth = torso.half_depth * (1.0 - u**3.6) ** 0.5 * (rise * (2.0 - rise)) ** (0.5 + 0.8 * near)
            depth += torso.belly * max(0.0, y) * (1.0 - u * u)
    v = away / torso.neck_half_width
    if v < 1.0:
        depth = max(depth, 1.12 * torso.neck_half_width * math.sqrt(1.0 - v * v))
    return depth


@numba.njit(cache=True, fastmath=True)
def cavity_depth(lung, x, y):  # type: ignore[no-untyped-def]
    """Half the depth of the lung at lateral distance x and height y, before the mediastinum takes its share."""
    if y <= lung.apex:
        return 0.0
    wide = lateral_border(lung, y)
    inner = medial_border(lung, y)
    if x >= wide or x <= inner:
        return 0.0
    u = x / wide
    level = min(1.0, (y - lung.apex) / (120.0 * lung.scale))
    depth = lung.depth * (0.38 + 0.62 * math.sqrt(level * (2.0 - level)))
    rounded = min(1.0, (x - inner) / (10.0 * lung.scale))
    top = min(1.0, (y - lung.apex) / (24.0 * lung.scale))
    return depth * (1.0 - u**lung.squareness) ** 0.45 * math.sqrt(rounded * (2.0 - rounded) * top * (2.0 - top))


@numba.njit(cache=True, fastmath=True)
def diaphragm(lung, x):  # type: ignore[no-untyped-def]
    """y of the top of the hemidiaphragm at lateral distance x."""
    centre = 0.42 * lung.width
    u = (x - centre) / (lung.width - centre)
    return lung.dome + lung.drop * ((abs(u)) ** 2.3 if u > 0 else 0.35 * u * u)
