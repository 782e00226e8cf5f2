"""The thorax as height fields: how much soft tissue, lung and heart each ray crosses."""

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from training.plain.phantom.pose import Pose

RIGHT, LEFT = 0, 1


class LungShape(NamedTuple):
    """One lung; lateral distances are measured from the midline outwards. All in mm."""

    apex: float  # y of the top
    dome: float  # y of the top of the hemidiaphragm
    angle: float  # y of the costophrenic angle
    apex_distance: float  # lateral distance of the top
    width: float  # greatest lateral distance
    medial: float  # least lateral distance
    depth: float  # greatest antero-posterior depth
    effusion_level: float  # y of the fluid at the mediastinum; far below the lung when there is none
    effusion_rise: float  # how far the meniscus climbs at the chest wall
    pneumothorax: float  # width of the free air at the apex, 0 when there is none


class ThoraxShape(NamedTuple):
    """Body and mediastinum, in mm."""

    half_width: float
    thickness: float
    neck: float  # half width of the neck
    shoulder: float  # y of the shoulder line beside the neck
    breast: float  # greatest thickness of a breast, 0 for none
    heart_x: float
    heart_y: float
    heart_long: float  # semi-axes
    heart_short: float
    heart_tilt: float  # radians
    aorta: float  # radius of the aortic knob
    mediastinum: float  # half width above the heart


class Layers(NamedTuple):
    """Path lengths in mm, each float32 [rows, columns]."""

    body: NDArray[np.float32]
    #: Soft tissue that a heart and mediastinum put in the place of lung, 0..1.
    mediastinum: NDArray[np.float32]
    #: [2, rows, columns]: anatomical depth of the right and left lung.
    lungs: NDArray[np.float32]
    #: [rows, columns]: share of the lung that still holds vessels and air (not fluid), 0..1.
    aerated: NDArray[np.float32]
    #: [rows, columns]: free air, 1 inside a pneumothorax.
    free_air: NDArray[np.float32]
    #: [rows, columns]: the visceral pleural line of a pneumothorax, 0..1.
    pleura: NDArray[np.float32]
    heart: NDArray[np.float32]


def project_thorax(
    shape: ThoraxShape, right: LungShape, left: LungShape, pose: Pose, rows: int, columns: int
) -> Layers:
    """Project the thorax onto a detector of `rows` x `columns` pixels."""
    planes = np.zeros((8, rows, columns), dtype=np.float32)
    _project(shape, right, left, pose.pixel_to_thorax(), planes)
    return Layers(planes[0], planes[1], planes[2:4], planes[4], planes[5], planes[6], planes[7])


@numba.njit(cache=True, fastmath=True)
def lateral_border(lung: LungShape, y: float) -> float:
    """Lateral distance of the chest wall at height y; 0 outside the lung's heights."""
    if y <= lung.apex or y >= lung.angle:
        return 0.0
    u = min(1.0, (y - lung.apex) / (0.72 * (lung.angle - lung.apex)))
    bulge = math.sqrt(1.0 - (1.0 - u) ** 2.2)
    below = max(0.0, (y - lung.angle) / (lung.angle - lung.apex) + 0.25)
    return lung.apex_distance + (lung.width - lung.apex_distance) * bulge - 60.0 * below * below


@numba.njit(cache=True, fastmath=True)
def medial_border(lung: LungShape, y: float) -> float:
    """Lateral distance of the mediastinal side at height y."""
    u = min(1.0, max(0.0, (y - lung.apex) / 45.0))
    return lung.apex_distance - (lung.apex_distance - lung.medial) * math.sqrt(1.0 - (1.0 - u) ** 2)


@numba.njit(cache=True, fastmath=True)
def diaphragm(lung: LungShape, distance: float) -> float:
    """y of the hemidiaphragm at a lateral distance."""
    centre = lung.medial + 0.42 * (lung.width - lung.medial)
    u = (distance - centre) / (lung.width - centre)
    drop = lung.angle - lung.dome
    return lung.dome + drop * (abs(u) ** 2.3 if u > 0 else 0.45 * u * u)


@numba.njit(cache=True, fastmath=True)
def _project(shape, right, left, matrix, planes):  # type: ignore[no-untyped-def]
    rows, columns = planes.shape[1:]
    cos_tilt, sin_tilt = math.cos(shape.heart_tilt), math.sin(shape.heart_tilt)
    for row in range(rows):
        for column in range(columns):
            px, py = column + 0.5, row + 0.5
            x = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2]
            y = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2]
            distance = abs(x)

            # Torso below sloping shoulders, neck above them.
            slope = shape.shoulder + 0.0016 * max(0.0, distance - 0.5 * shape.neck) ** 2
            body = 0.0
            if y > slope:
                u = min(1.0, distance / (shape.half_width + 0.12 * max(0.0, y - 60.0)))
                edge = min(1.0, (y - slope) / 45.0)
                body = shape.thickness * math.sqrt(1.0 - u**4) * (0.45 + 0.55 * math.sqrt(edge))
                body *= 1.0 + 0.0009 * max(0.0, y)
            if distance < shape.neck:
                u = distance / shape.neck
                body = max(body, 0.62 * shape.thickness * math.sqrt(1.0 - u * u))
            if shape.breast > 0.0:
                u = (distance - 80.0) / 62.0
                v = (y - 95.0) / (95.0 if y < 95.0 else 42.0)
                body += shape.breast * math.sqrt(max(0.0, 1.0 - u * u - v * v))
            planes[0, row, column] = body

            # Heart: a tilted ellipsoid with a flatter right atrium.
            hx, hy = x - shape.heart_x, y - shape.heart_y
            along = (hx * cos_tilt + hy * sin_tilt) / shape.heart_long
            across = (-hx * sin_tilt + hy * cos_tilt) / shape.heart_short
            inside = 1.0 - along * along - across * across
            heart = math.sqrt(inside) if inside > 0.0 else 0.0
            planes[7, row, column] = heart
            share = min(1.0, 1.25 * heart**0.7)
            half = shape.mediastinum + 0.10 * max(0.0, y) + 4.0 * math.sin(0.05 * y)
            if distance < half:
                share = max(share, min(1.0, 1.4 * math.sqrt(1.0 - (distance / half) ** 2)))
            # Aortic arch end on, and the descending aorta below it.
            u = (x - 0.5 * shape.aorta) / (1.08 * shape.aorta)
            v = (y + 26.0) / (1.05 * shape.aorta) if y < -26.0 else (y + 26.0) / 300.0
            aorta = 1.0 - u * u - v * v
            if aorta > 0.0:
                share = max(share, min(1.0 if y < 0.0 else 0.75, 1.1 * math.sqrt(aorta)))
            planes[1, row, column] = share

            side = RIGHT if x < 0 else LEFT
            lung = right if side == RIGHT else left
            lateral, medial = lateral_border(lung, y), medial_border(lung, y)
            floor = diaphragm(lung, distance)
            if distance <= medial or distance >= lateral or y >= floor:
                continue
            u = (distance - medial) / (lateral - medial)
            rounding = math.sqrt(max(0.0, 1.0 - u**3.0)) * min(1.0, math.sqrt(6.0 * u))
            taper = min(1.0, math.sqrt((y - lung.apex) / 70.0)) * min(1.0, 0.35 + math.sqrt((floor - y) / 45.0))
            planes[2 + side, row, column] = lung.depth * rounding * taper

            meniscus = lung.effusion_level - lung.effusion_rise * u**3
            fluid = min(1.0, max(0.0, (y - meniscus) / 22.0))
            planes[4, row, column] = 1.0 - fluid
            if lung.pneumothorax > 0.0:
                reach = lung.pneumothorax * (1.0 - 0.9 * (y - lung.apex) / (lung.angle - lung.apex))
                # Rounded where chest wall and apex meet.
                gap = 1.0 / math.sqrt(1.0 / (lateral - distance) ** 2 + 1.0 / (0.8 * (y - lung.apex)) ** 2) - reach
                if gap < 0.0:
                    planes[5, row, column] = 1.0
                planes[6, row, column] = max(0.0, 1.0 - abs(gap) / 1.1)
