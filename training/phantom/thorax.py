"""Organs as depth intervals along every ray: how much body, lung, heart and gas each ray crosses.

Called by render.py, on every second or third pixel: nothing here is finer, and what is (bones, vessels) is drawn apart.
Along a ray one coordinate runs (z in frontal views, x in lateral ones); an interval is [from, to] of it.
"""

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from training.phantom.body import Body
from training.phantom.geometry import Geometry
from training.phantom.shapes import diaphragm, half_depth, lateral_border, medial_border
from training.phantom.truth import View

#: The ellipsoids of one group fill everything between the first and the last surface.
HEART, VESSELS, BACK, GAS = 0, 1, 2, 3
_GROUPS = 4
#: Entries of a lung's table: mm below its apex.
_LENGTH = 512


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An organ or a part of one; turned in the frontal plane only."""

    group: int
    #: mm [3].
    centre: NDArray[np.float64]
    radii: NDArray[np.float64]
    #: Radians, clockwise as seen on a frontal image.
    turn: float = 0.0


@dataclass(frozen=True, eq=False)
class Layers:
    """Path lengths in mm along the rays, each float32 [rows, columns] of the geometry that was asked for."""

    #: Torso, neck, breasts.
    body: NDArray[np.float32]
    #: Anatomical depth of the right and the left lung, mediastinum taken out: what holds air in a healthy person.
    right_lung: NDArray[np.float32]
    left_lung: NDArray[np.float32]
    #: Depth of the lungs as if heart and vessels were not there, beside the spine and above the dome: for masks.
    right_cavity: NDArray[np.float32]
    left_cavity: NDArray[np.float32]
    heart: NDArray[np.float32]
    #: Stomach and bowel.
    gas: NDArray[np.float32]
    #: Of the lung that the ray crosses (the right one where it crosses both): the patient's lateral distance as a
    #: share of the chest wall's (0 midline, 1 wall), and the height y in mm; 0 outside.
    share: NDArray[np.float32]
    height: NDArray[np.float32]


def project_thorax(body: Body, organs: list[Ellipsoid], geometry: Geometry, wobble: NDArray[np.float32]) -> Layers:
    """Project onto `geometry`; `wobble` [rows, columns], smooth, of unit variance, moves outlines a little."""
    rows, columns = geometry.rows, geometry.columns
    planes = np.zeros((9, rows, columns), dtype=np.float32)
    intervals = np.zeros((_GROUPS, 2, rows, columns), dtype=np.float32)
    lateral = geometry.view is View.LATERAL
    axis = 0 if lateral else 2
    matrix, source = geometry.pixel_to_patient, geometry.source
    intervals[:, 0], intervals[:, 1] = 1e4, -1e4
    for organ in organs:
        pixels, magnification = geometry.project(organ.centre[None])
        reach = 1.15 * float(organ.radii.max() * magnification[0]) / geometry.imager_mm_per_pixel + 2
        x, y = float(pixels[0, 0]), float(pixels[0, 1])
        box = (max(0, int(y - reach)), min(rows, int(y + reach) + 1), max(0, int(x - reach)), int(x + reach) + 1)
        box = (*box[:3], min(columns, box[3]))
        _ellipsoid(organ.centre, organ.radii, organ.turn, box, source, matrix, axis, wobble, intervals[organ.group])
    right, left = body.right.lung, body.left.lung
    if lateral:
        _lateral(body.torso, right, left, source, matrix, wobble, intervals, planes)
    else:
        tables = np.stack([_table(right), _table(left)])
        _frontal(body.torso, right, left, tables, source, matrix, wobble, intervals, planes)
    return Layers(*planes)


@numba.njit(cache=True, fastmath=True)
def _ellipsoid(centre, radii, turn, box, source, matrix, axis, wobble, interval):  # type: ignore[no-untyped-def]
    cos, sin = math.cos(turn), math.sin(turn)
    for row in range(box[0], box[1]):
        for column in range(box[2], box[3]):
            px, py = column + 0.5, row + 0.5
            dx = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] - source[0]
            dy = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] - source[1]
            dz = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] - source[2]
            if axis == 2:
                dx, dy, dz, base = dx / dz, dy / dz, 1.0, source[2]
            else:
                dx, dy, dz, base = 1.0, dy / dx, dz / dx, source[0]
            ox, oy, oz = source[0] - centre[0], source[1] - centre[1], source[2] - centre[2]
            a0, a1, a2 = (ox * cos + oy * sin) / radii[0], (-ox * sin + oy * cos) / radii[1], oz / radii[2]
            b0, b1, b2 = (dx * cos + dy * sin) / radii[0], (-dx * sin + dy * cos) / radii[1], dz / radii[2]
            a = b0 * b0 + b1 * b1 + b2 * b2
            b = a0 * b0 + a1 * b1 + a2 * b2
            c = a0 * a0 + a1 * a1 + a2 * a2 - 1.0 - 0.035 * wobble[row, column]
            square = b * b - a * c
            if square > 0.0:
                root = math.sqrt(square)
                low, high = base + (-b - root) / a, base + (-b + root) / a
                interval[0, row, column] = min(interval[0, row, column], low)
                interval[1, row, column] = max(interval[1, row, column], high)


@numba.njit(cache=True, fastmath=True)
def _without(low, high, intervals, row, column):  # type: ignore[no-untyped-def]
    """Length of [low, high] that heart, vessels and what lies at the back leave over; they may overlap."""
    free = high - low
    reached = low
    h0, h1 = intervals[0, 0, row, column], intervals[0, 1, row, column]
    v0, v1 = intervals[1, 0, row, column], intervals[1, 1, row, column]
    b0, b1 = intervals[2, 0, row, column], intervals[2, 1, row, column]
    if v0 < h0:
        h0, h1, v0, v1 = v0, v1, h0, h1
    if b0 < h0:
        h0, h1, b0, b1 = b0, b1, h0, h1
    if b0 < v0:
        v0, v1, b0, b1 = b0, b1, v0, v1
    for k in range(3):
        start = h0 if k == 0 else (v0 if k == 1 else b0)
        stop = h1 if k == 0 else (v1 if k == 1 else b1)
        start, stop = max(start, reached), min(stop, high)
        if stop > start:
            free -= stop - start
            reached = stop
    return free


@numba.njit(cache=True, fastmath=True)
def _breast(torso, x, y):  # type: ignore[no-untyped-def]
    u = (abs(x) - torso.breast_x) / torso.breast_radius
    v = (y - torso.breast_y) / (torso.breast_radius * (1.25 if y < torso.breast_y else 0.72))
    inside = 1.0 - u * u - v * v
    return torso.breast * math.sqrt(inside) if inside > 0.0 else 0.0


@numba.njit(cache=True, fastmath=True)
def _table(lung):  # type: ignore[no-untyped-def]
    """By mm below the apex: chest wall, inner side, depth; by share of the wall: rounding, dome. float64 [5, ...]."""
    table = np.zeros((5, _LENGTH))
    for i in range(_LENGTH):
        y = lung.apex + i
        table[0, i] = lateral_border(lung, y) if i > 0 else lung.apex_x
        table[1, i] = medial_border(lung, y)
        level = min(1.0, i / (120.0 * lung.scale))
        top = min(1.0, i / (24.0 * lung.scale))
        table[2, i] = lung.depth * (0.38 + 0.62 * math.sqrt(level * (2.0 - level))) * math.sqrt(top * (2.0 - top))
        u = i / (_LENGTH - 1.0)
        table[3, i] = (1.0 - u**lung.squareness) ** 0.45
        table[4, i] = diaphragm(lung, 1.25 * u * lung.width)
    return table


@numba.njit(cache=True, fastmath=True, inline="always")
def _look(row, at):  # type: ignore[no-untyped-def]
    at = min(max(at, 0.0), _LENGTH - 1.001)
    i = int(at)
    return row[i] + (at - i) * (row[i + 1] - row[i])


@numba.njit(cache=True, fastmath=True)
def _cavity(table, scale, x, below):  # type: ignore[no-untyped-def]
    """As `cavity_depth`, by table; `below` is the distance below the apex."""
    if below <= 0.0 or x <= 0.0:
        return 0.0
    wide, inner = _look(table[0], below), _look(table[1], below)
    if x >= wide or x <= inner:
        return 0.0
    rounded = min(1.0, (x - inner) / (22.0 * scale))
    share = _look(table[3], x / wide * (_LENGTH - 1.0))
    return _look(table[2], below) * share * math.sqrt(rounded * (2.0 - rounded))


@numba.njit(cache=True, fastmath=True)
def _frontal(torso, right, left, tables, source, matrix, wobble, intervals, planes):  # type: ignore[no-untyped-def]
    rows, columns = planes.shape[1:]
    for row in range(rows):
        for column in range(columns):
            px, py = column + 0.5, row + 0.5
            dz = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] - source[2]
            ax = (matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] - source[0]) / dz
            ay = (matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] - source[1]) / dz
            x0, y0 = source[0] - ax * source[2], source[1] - ay * source[2]
            stretch = math.sqrt(1.0 + ax * ax + ay * ay)
            x, y = x0 + ax * torso.centre_z, y0 + ay * torso.centre_z
            depth = half_depth(torso, x, y)
            front = torso.centre_z - depth
            thickness = 2.0 * depth
            if torso.breast > 0.0:
                thickness += _breast(torso, x0 + ax * front, y0 + ay * front)
            planes[0, row, column] = thickness * stretch
            heart = intervals[0, 1, row, column] - intervals[0, 0, row, column]
            if heart > 0.0:
                planes[5, row, column] = heart * stretch
            gas = intervals[3, 1, row, column] - intervals[3, 0, row, column]
            if gas > 0.0:
                planes[6, row, column] = gas * stretch

            for side in range(2):
                lung = right if side == 0 else left
                reach = 0.6 * lung.depth
                zf, zb = lung.centre_z - reach, lung.centre_z + reach
                xf, xb = lung.sign * (x0 + ax * zf), lung.sign * (x0 + ax * zb)
                yf, yb = y0 + ay * zf, y0 + ay * zb
                if max(yb, yf) < lung.apex or max(xf, xb) < 0.0:
                    continue
                fuzz = 1.2 * lung.scale * wobble[row, column]
                ahead = _cavity(tables[side], lung.scale, xf, yf - lung.apex)
                behind = _cavity(tables[side], lung.scale, xb, yb - lung.apex)
                if ahead <= 0.0 and behind <= 0.0:
                    continue
                low, high = lung.centre_z - ahead, lung.centre_z + behind
                # Spine: lungs reach back beside it only.
                high = min(high, (22.0 + 0.11 * xb * xb / lung.scale) * lung.scale)
                # The dome is highest in its front half and falls away to the posterior recess.
                xm = lung.sign * (x0 + ax * lung.centre_z)
                floor = _look(tables[side, 4], xm / (1.25 * lung.width) * (_LENGTH - 1.0)) + fuzz
                below = (y0 + ay * lung.centre_z) - floor
                front = 0.0
                if below > 0.0:
                    top = lung.centre_z - 0.25 * lung.depth
                    away = 1.2 * lung.depth * math.sqrt(below / lung.back_drop)
                    # In front it falls away faster.
                    before = top - 1.7 * away
                    if before > low:
                        front = _without(low, before, intervals, row, column)
                    low = max(low, top + away)
                if high <= low and front <= 0.0:
                    continue
                if below <= 0.0 and xm > 14.0 * lung.scale:
                    planes[3 + side, row, column] = (high - low) * stretch
                if high > low:
                    front += _without(low, high, intervals, row, column)
                planes[1 + side, row, column] = front * stretch
                planes[7, row, column] = min(1.0, max(0.0, xm / max(1.0, _look(tables[side, 0], yb - lung.apex))))
                planes[8, row, column] = y0 + ay * lung.centre_z


@numba.njit(cache=True, fastmath=True)
def _lateral(torso, right, left, source, matrix, wobble, intervals, planes):  # type: ignore[no-untyped-def]
    rows, columns = planes.shape[1:]
    for row in range(rows):
        for column in range(columns):
            px, py = column + 0.5, row + 0.5
            dx = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] - source[0]
            ay = (matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] - source[1]) / dx
            az = (matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] - source[2]) / dx
            y0, z0 = source[1] - ay * source[0], source[2] - az * source[0]
            stretch = math.sqrt(1.0 + az * az + ay * ay)
            deep = half_depth(torso, 0.0, y0)
            if deep > 0.0:
                u = abs(z0 - torso.centre_z) / deep
                if u < 1.0:
                    wide = torso.half_width if y0 > torso.shoulder + 40.0 * torso.scale else torso.neck_half_width
                    rise = min(1.0, max(0.0, (y0 - torso.shoulder) / (60.0 * torso.scale)))
                    wide = torso.neck_half_width + (torso.half_width - torso.neck_half_width) * rise
                    planes[0, row, column] = 2.0 * wide * (1.0 - u**2.2) ** (1.0 / 2.6) * stretch
            heart = intervals[0, 1, row, column] - intervals[0, 0, row, column]
            if heart > 0.0:
                planes[5, row, column] = heart * stretch
            gas = intervals[3, 1, row, column] - intervals[3, 0, row, column]
            if gas > 0.0:
                planes[6, row, column] = gas * stretch
            for side in range(2):
                lung = right if side == 0 else left
                middle = 0.5 * lung.sign * lung.width
                y, z = y0 + ay * middle, z0 + az * middle
                if y <= lung.apex:
                    continue
                level = min(1.0, (y - lung.apex) / (120.0 * lung.scale))
                depth = lung.depth * (0.38 + 0.62 * math.sqrt(level * (2.0 - level)))
                away = abs(z - lung.centre_z) / depth
                if away >= 1.0:
                    continue
                wide = lateral_border(lung, y)
                outer = wide * (1.0 - away ** (1.0 / 0.45)) ** (1.0 / lung.squareness)
                inner = medial_border(lung, y)
                if z > 22.0 * lung.scale:
                    inner = max(inner, math.sqrt((z / lung.scale - 22.0) / 0.11) * lung.scale)
                # Below the dome air is left at the sides and behind.
                top = lung.centre_z - 0.25 * lung.depth
                behind = (z - top) / (1.2 * lung.depth)
                floor = lung.dome + lung.back_drop * (behind * behind if behind > 0.0 else 0.6 * behind * behind)
                floor += 1.2 * lung.scale * wobble[row, column]
                if y > floor:
                    over = (y - floor) / lung.drop
                    if over >= 1.0:
                        continue
                    centre = 0.42 * lung.width
                    inner = max(inner, centre + over ** (1.0 / 2.3) * (lung.width - centre))
                if outer <= inner:
                    continue
                low, high = (inner, outer) if lung.sign > 0 else (-outer, -inner)
                planes[3 + side, row, column] = (high - low) * stretch
                planes[1 + side, row, column] = _without(low, high, intervals, row, column) * stretch
                planes[7, row, column] = 0.5
                planes[8, row, column] = y
