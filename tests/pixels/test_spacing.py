import math
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from schemas.codes import DistanceBasis
from workers.spacing import NO_SPACING, Spacing, image_spacing


def _header(**attributes: Any) -> Dataset:
    header = Dataset()
    header.Rows, header.Columns = 2500, 2048
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return header


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (
            {
                "PixelSpacing": [0.14, 0.13],
                "ImagerPixelSpacing": [0.14, 0.13],
                "PixelSpacingCalibrationType": "FIDUCIAL",
            },
            Spacing(0.14, 0.13, DistanceBasis.CALIBRATED),
        ),
        ({"PixelSpacing": [0.14, 0.14]}, Spacing(0.14, 0.14, DistanceBasis.CALIBRATED)),
        (
            {"PixelSpacing": [0.13, 0.13], "ImagerPixelSpacing": [0.14, 0.14]},
            Spacing(0.13, 0.13, DistanceBasis.CALIBRATED),
        ),
        (
            {"PixelSpacing": ["0.143", "0.143"], "ImagerPixelSpacing": ["0.1430", "0.14300"]},
            Spacing(0.143, 0.143, DistanceBasis.DETECTOR_PLANE),
        ),
        (
            {"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 1.25},
            Spacing(0.16, 0.16, DistanceBasis.MAGNIFICATION_CORRECTED),
        ),
        (
            {"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 1.0},
            Spacing(0.2, 0.2, DistanceBasis.DETECTOR_PLANE),
        ),
        (
            {"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 0.0},
            Spacing(0.2, 0.2, DistanceBasis.DETECTOR_PLANE),
        ),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, Spacing(0.2, 0.1, DistanceBasis.DETECTOR_PLANE)),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.2, 0.2]}, Spacing(0.2, 0.2, DistanceBasis.DETECTOR_PLANE)),
        ({"PixelSpacing": [-0.2, 0.2]}, NO_SPACING),
        ({"PixelSpacing": "0.2"}, Spacing(0.2, 0.2, DistanceBasis.CALIBRATED)),
        ({"PixelSpacing": [0.2, 0.2, 0.2]}, NO_SPACING),
        ({"PixelSpacing": [143, 143]}, NO_SPACING),
        ({"PixelSpacing": [0.2, 0.9]}, NO_SPACING),
        # A thumbnail that kept the spacing of its original would be a chest 25 mm tall.
        ({"Rows": 250, "Columns": 250, "PixelSpacing": [0.1, 0.1]}, NO_SPACING),
        ({}, NO_SPACING),
    ],
)
def test_the_basis_says_what_the_millimetres_rest_on(attributes: dict[str, Any], expected: Spacing) -> None:
    spacing = image_spacing(_header(**attributes))
    assert spacing.basis is expected.basis
    assert spacing.row_mm == pytest.approx(expected.row_mm)
    assert spacing.column_mm == pytest.approx(expected.column_mm)


@pytest.mark.parametrize(
    ("distance", "largest"), [(1000.0, 1.2), (1800.0, 1.1), (None, 1.2), (110.0, 1.2), (0.0, 1.2), (1e9, 1.2)]
)
def test_how_much_a_length_on_the_detector_is_magnified_at_most_follows_from_the_sources_distance(
    distance: float | None, largest: float
) -> None:
    stated = {} if distance is None else {"DistanceSourceToDetector": distance}
    spacing = image_spacing(_header(ImagerPixelSpacing=[0.2, 0.2], **stated))
    assert spacing.magnification == pytest.approx((1.0, largest), abs=0.006)


_TEXT = st.text(max_size=24).map(lambda text: text.encode("latin-1", "replace"))


@given(_TEXT, _TEXT, _TEXT)
def test_any_bytes_in_the_header_give_positive_spacing_or_none(pixel: bytes, imager: bytes, factor: bytes) -> None:
    header = _header()
    for tag, value in (((0x0028, 0x0030), pixel), ((0x0018, 0x1164), imager), ((0x0018, 0x1114), factor)):
        raw = pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), "DS", len(value), value, 0, False, True, True)
        header[tag] = raw
    spacing = image_spacing(header)
    assert math.isfinite(spacing.row_mm)
    assert (spacing == NO_SPACING) or (spacing.row_mm > 0 and spacing.column_mm > 0)
