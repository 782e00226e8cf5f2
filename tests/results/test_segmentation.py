"""Segmentations hold the masks as they are, are found by viewers, and do not pretend more geometry than was asked."""

import io

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from schemas.codes import Segment
from schemas.settings import SegmentationGeometry
from tests.results.sources import BUNDLE, COLUMNS, CONTENT_TIME, ROWS, dx_header, masks, received, source
from workers.results.equipment import part10_bytes
from workers.results.segmentation import build_segmentation
from workers.results.source import SourceImage


def built(image: SourceImage, geometry: SegmentationGeometry = SegmentationGeometry.PLANES) -> bytes:
    segmentation = build_segmentation(image, BUNDLE, geometry, CONTENT_TIME)
    assert segmentation is not None
    return part10_bytes(segmentation)


def read(content: bytes) -> Dataset:
    return dcmread(io.BytesIO(content))


@pytest.mark.parametrize("geometry", SegmentationGeometry)
def test_masks_come_back_equal(geometry: SegmentationGeometry) -> None:
    image = source(received(dx_header()))
    segmentation = highdicom.seg.segread(io.BytesIO(built(image, geometry)))
    pixels = segmentation.get_pixels_by_source_instance([image.header.SOPInstanceUID])
    outlined = [segment for segment in Segment if segment in masks()]
    assert pixels.shape == (1, ROWS, COLUMNS, len(outlined))
    for number, segment in enumerate(outlined, start=1):
        assert np.array_equal(pixels[0, :, :, number - 1].astype(bool), masks()[segment])
        described = segmentation.get_segment_description(number)
        assert described.segmented_property_type.value == segment.code.value
        assert described.tracking_uid == image.identity.tracking_uids[f"segment.{segment.value}"]
        assert described.SegmentAlgorithmType == "AUTOMATIC"
        assert len(described.RecommendedDisplayCIELabValue) == 3


def test_every_region_has_a_name_a_code_and_a_colour_of_its_own() -> None:
    every = {segment: np.eye(ROWS, COLUMNS, dtype=np.bool_) for segment in Segment}
    segmentation = read(built(source(dx_header(), image_masks=every)))
    described = segmentation.SegmentSequence
    assert [each.SegmentedPropertyTypeCodeSequence[0].CodeValue for each in described] == [
        each.code.value for each in Segment
    ]
    physical = [
        each.SegmentLabel for each in described if "object" in each.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning
    ]
    assert physical == ["Endotracheal tube", "Nasogastric tube", "Central venous catheter"]
    assert len({tuple(each.RecommendedDisplayCIELabValue) for each in described}) == len(Segment)
    assert len({each.SegmentLabel for each in described}) == len(Segment)


def test_empty_masks_are_no_segments() -> None:
    only_heart = {segment: np.zeros((ROWS, COLUMNS), dtype=np.bool_) for segment in Segment}
    assert (
        build_segmentation(source(dx_header(), image_masks=only_heart), BUNDLE, SegmentationGeometry.NONE, CONTENT_TIME)
        is None
    )
    only_heart[Segment.HEART][3, 4] = True
    segmentation = read(built(source(dx_header(), image_masks=only_heart)))
    assert [each.SegmentLabel for each in segmentation.SegmentSequence] == ["Heart"]


def test_a_mask_of_another_shape_is_refused() -> None:
    wrong = {Segment.HEART: np.ones((ROWS, COLUMNS + 1), dtype=np.bool_)}
    with pytest.raises(ValueError, match="mask of heart"):
        build_segmentation(source(dx_header(), image_masks=wrong), BUNDLE, SegmentationGeometry.NONE, CONTENT_TIME)


def test_planes_are_what_ohif_asks_for() -> None:
    """facts/spike.md 3: plane orientation, plane position and measures, in a frame of reference of its own."""
    for changes in ({}, {"FrameOfReferenceUID": "1.2.3.4"}, {"ImagerPixelSpacing": [0.2, 0.2]}):
        segmentation = read(built(source(received(dx_header(**changes)))))
        shared = segmentation.SharedFunctionalGroupsSequence[0]
        assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
        spacing = changes.get("ImagerPixelSpacing", [1, 1])
        assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == spacing
        assert segmentation.FrameOfReferenceUID.startswith("2.25.")
        assert segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        for frame in segmentation.PerFrameFunctionalGroupsSequence:
            assert list(frame.PlanePositionSequence[0].ImagePositionPatient) == [0, 0, 0]


def test_without_geometry_the_orientation_is_copied() -> None:
    segmentation = read(built(source(received(dx_header(FrameOfReferenceUID="1.2.3.4"))), SegmentationGeometry.NONE))
    assert "FrameOfReferenceUID" not in segmentation
    assert "PlaneOrientationSequence" not in segmentation.SharedFunctionalGroupsSequence[0]
    assert list(segmentation.PatientOrientation) == ["L", "F"]
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == dx_header().SeriesInstanceUID


def test_two_images_never_share_an_invented_frame_of_reference() -> None:
    frames = {read(built(source(dx_header(name)))).FrameOfReferenceUID for name in ("a", "b")}
    assert len(frames) == 2


def test_the_patient_is_carried_over() -> None:
    header = dx_header(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Eva", AccessionNumber="A 1")
    segmentation = read(built(source(received(header))))
    assert str(segmentation.PatientName) == "Müller^Eva"
    assert segmentation.SpecificCharacterSet == "ISO_IR 192"
    assert segmentation.AccessionNumber == "A 1"
    assert segmentation.SeriesDescription.endswith("not for clinical use")
    assert "ContentCreatorName" in segmentation


@pytest.mark.parametrize("geometry", SegmentationGeometry)
def test_the_same_arguments_give_the_same_bytes(geometry: SegmentationGeometry) -> None:
    assert built(source(received(dx_header())), geometry) == built(source(received(dx_header())), geometry)
