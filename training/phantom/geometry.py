"""The X-ray beam: from a point source through the patient onto the pixels, and back along a ray.

Called by everything that draws: organs ask for rays, ribs, vessels and devices project their points.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from schemas.result import Point
from training.phantom.truth import View

# Rows: along the image's columns (u), down its rows (v), from the detector towards the source (w).
_STANCE = {
    # Breast against the detector, the source behind the back; displayed as if one faced the patient.
    View.PA: np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]),
    # Back on the detector, the source in front.
    View.AP: np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, -1]]),
    # Left side against the detector; displayed with the face to the left.
    View.LATERAL: np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]]),
}


@dataclass(frozen=True)
class Geometry:
    """One exposure. Detector mm have their origin below the carina: where the ray at a right angle would leave it."""

    view: View
    rows: int
    columns: int
    imager_mm_per_pixel: float
    #: Distance Source to Detector (0018,1110).
    source_to_detector_mm: float
    carina_to_detector_mm: float
    #: Of the patient about the long axis: positive turns the patient's left side towards the back.
    rotation_degrees: float = 0.0
    #: Of the patient about the transverse axis: positive leans the head back (lordotic).
    tilt_degrees: float = 0.0
    #: Of the image in its plane, clockwise.
    turn_degrees: float = 0.0
    #: Detector mm (u, v) that lies in the middle of the image.
    middle_u: float = 0.0
    middle_v: float = 0.0
    #: Detector mm (u, v) below the source, where rays meet the detector at a right angle.
    beam_u: float = 0.0
    beam_v: float = 0.0

    @property
    def magnification(self) -> float:
        """Of what lies at the depth of the carina."""
        return self.source_to_detector_mm / (self.source_to_detector_mm - self.carina_to_detector_mm)

    @property
    def patient_mm_per_pixel(self) -> float:
        """Pixel size at the depth of the carina."""
        return self.imager_mm_per_pixel / self.magnification

    def project(self, points: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Pixels (x, y) float32 [n, 2] as in SCOORD and magnification float32 [n] of patient mm [n, 3]."""
        u, v, w = self._to_room @ np.asarray(points, dtype=np.float64).T
        magnified = self.source_to_detector_mm / (self.source_to_detector_mm - self.carina_to_detector_mm - w)
        u = self.beam_u + (u - self.beam_u) * magnified - self.middle_u
        v = self.beam_v + (v - self.beam_v) * magnified - self.middle_v
        pixels = np.stack([u, v], axis=1) @ self._turned.T / self.imager_mm_per_pixel
        pixels += np.array([self.columns / 2, self.rows / 2])
        return pixels.astype(np.float32), magnified.astype(np.float32)

    def project_point(self, point: NDArray[np.floating]) -> Point:
        """One point of the patient (mm [3]) on the image, inside of it or not."""
        pixels, _ = self.project(np.asarray(point)[None])
        return Point(x=float(pixels[0, 0]), y=float(pixels[0, 1]))

    def shows(self, point: Point) -> bool:
        """Whether an image point lies on the image."""
        return 0 <= point.x < self.columns and 0 <= point.y < self.rows

    def coarser(self, step: int) -> "Geometry":
        """The same exposure with pixels `step` times as wide; they start at the same corner and cover the image."""
        rows, columns = -(-self.rows // step), -(-self.columns // step)
        beyond = np.array([columns * step - self.columns, rows * step - self.rows]) / 2
        shift = self.imager_mm_per_pixel * self._turned.T @ beyond
        return replace(
            self,
            rows=rows,
            columns=columns,
            imager_mm_per_pixel=self.imager_mm_per_pixel * step,
            middle_u=self.middle_u + float(shift[0]),
            middle_v=self.middle_v + float(shift[1]),
        )

    @cached_property
    def source(self) -> NDArray[np.float64]:
        """The focal spot in patient mm, float64 [3]."""
        height = self.source_to_detector_mm - self.carina_to_detector_mm
        return np.asarray(self._to_room.T @ np.array([self.beam_u, self.beam_v, height]))

    @cached_property
    def pixel_to_patient(self) -> NDArray[np.float64]:
        """float64 [3, 3]: (x pixel, y pixel, 1) to the point of the detector in patient mm."""
        linear = self.imager_mm_per_pixel * self._turned.T
        offset = np.array([self.middle_u, self.middle_v]) - linear @ np.array([self.columns / 2, self.rows / 2])
        plane = np.zeros((3, 3))
        plane[:2, :2], plane[:2, 2], plane[2, 2] = linear, offset, -self.carina_to_detector_mm
        return np.asarray(self._to_room.T @ plane)

    @cached_property
    def _to_room(self) -> NDArray[np.float64]:
        turn, lean = math.radians(self.rotation_degrees), math.radians(self.tilt_degrees)
        about_y = np.array(
            [[math.cos(turn), 0, -math.sin(turn)], [0, 1, 0], [math.sin(turn), 0, math.cos(turn)]], dtype=np.float64
        )
        about_x = np.array(
            [[1, 0, 0], [0, math.cos(lean), math.sin(lean)], [0, -math.sin(lean), math.cos(lean)]], dtype=np.float64
        )
        return np.asarray(_STANCE[self.view] @ about_x @ about_y)

    @cached_property
    def _turned(self) -> NDArray[np.float64]:
        angle = math.radians(self.turn_degrees)
        return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
