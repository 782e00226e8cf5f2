"""How many millimetres a pixel of a projection radiograph is, and what that statement rests on (PS3.3 10.7.1)."""

import math
from dataclasses import dataclass

from pydicom import Dataset

from node.intake.attributes import number, numbers, text
from schemas.codes import DistanceBasis

#: Spacings outside are mistakes (micrometres, DPI, sizes): detectors have 0.05 to 0.2 mm, thumbnails up to 2 mm.
PLAUSIBLE_SPACING_MM = (0.02, 4.0)
#: A chest radiograph whose longer side would be outside was scaled without its header, or its spacing is wrong.
PLAUSIBLE_LONGER_SIDE_MM = (80.0, 1000.0)
#: Source-to-detector over source-to-patient distance; below 1 is impossible, beyond 2 no chest radiograph is taken.
MAXIMUM_MAGNIFICATION = 2.0
#: How much larger than in the patient the carina is on a chest radiograph that does not say it: by geometry, distance
#: from source to detector over distance from source to carina. At least 1.0, on the detector; at most 1.2, on a bedside
#: film at 100 cm of an adult whose carina is so far away from the detector:
MAGNIFICATION_RANGE = (1.0, 1.2)
CARINA_TO_DETECTOR_MM = 170.0
#: Distances from source to detector that are no mistakes; at 180 cm the carina is magnified by 1.1 at most.
PLAUSIBLE_SOURCE_TO_DETECTOR_MM = (900.0, 4000.0)


@dataclass(frozen=True)
class Spacing:
    """Distance between adjacent pixel centres in mm; both 0.0 when `basis` is NONE."""

    #: Between rows: along y.
    row_mm: float
    #: Between columns: along x.
    column_mm: float
    basis: DistanceBasis
    #: In the detector plane: least and largest factor by which distances are larger than in the patient. Of other bases
    #: it says nothing, since their distances are the patient's.
    magnification: tuple[float, float] = MAGNIFICATION_RANGE


NO_SPACING = Spacing(0.0, 0.0, DistanceBasis.NONE)


def image_spacing(header: Dataset) -> Spacing:
    """The best spacing that the header states; never raises: what is ill-formed or implausible counts as absent.

    1. Pixel Spacing with a Pixel Spacing Calibration Type (FIDUCIAL or GEOMETRY): calibrated.
    2. Pixel Spacing without a type, other than Imager Pixel Spacing or alone: calibrated. Of two different values
       10.7.1.1 says that the image was corrected. Of Pixel Spacing alone it says that one cannot know; we take it as
       the modality's statement, because its definition is "distance in the patient" and nothing contradicts it.
    3. Otherwise Imager Pixel Spacing (or Pixel Spacing equal to it, which 10.7.1.1 says is not corrected) divided by
       Estimated Radiographic Magnification Factor. A factor of exactly 1 is how devices write "not known".
    4. Imager Pixel Spacing as it is: in the plane of the detector. Distance Source to Detector then says by how much
       distances may be too large at most.
    """
    pixel = _pair(header, "PixelSpacing")
    imager = _pair(header, "ImagerPixelSpacing")
    if pixel is not None:
        calibrated = text(header, "PixelSpacingCalibrationType") in ("FIDUCIAL", "GEOMETRY")
        if calibrated or imager is None or not _equal(pixel, imager):
            return Spacing(*pixel, DistanceBasis.CALIBRATED)
    if imager is None:
        return NO_SPACING
    magnification = number(header, "EstimatedRadiographicMagnificationFactor")
    if magnification is not None and 1.0 < magnification <= MAXIMUM_MAGNIFICATION:
        corrected = (imager[0] / magnification, imager[1] / magnification)
        return Spacing(*corrected, DistanceBasis.MAGNIFICATION_CORRECTED)
    return Spacing(*imager, DistanceBasis.DETECTOR_PLANE, _magnification(header))


def _magnification(header: Dataset) -> tuple[float, float]:
    """MAGNIFICATION_RANGE, or less where the header says how far away the source was."""
    least, largest = MAGNIFICATION_RANGE
    distance = number(header, "DistanceSourceToDetector")
    low, high = PLAUSIBLE_SOURCE_TO_DETECTOR_MM
    if distance is None or not low <= distance <= high:
        return least, largest
    return least, distance / (distance - CARINA_TO_DETECTOR_MM)


def _pair(header: Dataset, keyword: str) -> tuple[float, float] | None:
    """Row and column spacing (PS3.3 10.7.1.3: rows first), or None when absent or not believable."""
    stated = numbers(header, keyword)
    # A single number where two are due: radiograph pixels are square, so it can only mean both.
    row, column = stated * 2 if len(stated) == 1 else stated if len(stated) == 2 else (0.0, 0.0)
    low, high = PLAUSIBLE_SPACING_MM
    if not (low <= row <= high and low <= column <= high and 0.5 <= row / column <= 2.0):
        return None
    rows, columns = number(header, "Rows"), number(header, "Columns")
    if rows and columns:
        shortest, longest = PLAUSIBLE_LONGER_SIDE_MM
        if not shortest <= max(rows * row, columns * column) <= longest:
            return None
    return row, column


def _equal(first: tuple[float, float], second: tuple[float, float]) -> bool:
    # The two are often written with different numbers of digits.
    return all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(first, second, strict=True))
