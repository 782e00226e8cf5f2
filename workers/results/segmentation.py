"""Segmentation of one image (PS3.3 A.51): lungs, heart and tube as binary segments in the image's pixel grid."""

import copy
from datetime import datetime

import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from highdicom.seg import Segmentation as HighdicomSegmentation
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from schemas.codes import Segment
from schemas.identity import MANUFACTURER, software_version
from schemas.result import BundleReference
from schemas.settings import SegmentationGeometry
from workers.results.coding import algorithm_of_segments, coding_schemes, concept
from workers.results.derived_uid import derived_uid
from workers.results.equipment import (
    SEGMENTATION_SERIES_NUMBER,
    blank_header,
    complete,
    own_equipment,
    replace_dimension_organization,
    serial_number,
    series_description,
)
from workers.results.header import normalise
from workers.results.source import SourceImage, segment_key

_LABELS = {
    Segment.RIGHT_LUNG: "Right lung",
    Segment.LEFT_LUNG: "Left lung",
    Segment.HEART: "Heart",
    Segment.CLAVICLES: "Clavicles",
    Segment.RIBS: "Ribs",
    Segment.ENDOTRACHEAL_TUBE: "Endotracheal tube",
    Segment.NASOGASTRIC_TUBE: "Nasogastric tube",
    Segment.CENTRAL_VENOUS_CATHETER: "Central venous catheter",
}


def build_segmentation(
    source: SourceImage, bundle: BundleReference, geometry: SegmentationGeometry, content_time: datetime
) -> Dataset | None:
    """The Segmentation of `source`, one frame [rows, columns] per segment; None when no mask has a pixel.

    Raises ValueError when a mask has not the image's shape.
    """
    rows, columns = source.result.rows, source.result.columns
    for segment, mask in source.masks.items():
        if mask.shape != (rows, columns):
            raise ValueError(f"The mask of {segment} is {mask.shape}, the image {(rows, columns)}.")
    segments = [segment for segment in Segment if segment in source.masks and source.masks[segment].any()]
    if not segments:
        return None

    header = normalise(source.header)
    identity = source.identity
    image = blank_header(header, rows, columns)
    if geometry is SegmentationGeometry.PLANES:
        _invent_plane(image, identity.segmentation_sop_instance_uid)
    dataset = HighdicomSegmentation(
        source_images=[image],
        pixel_array=np.stack([source.masks[segment] for segment in segments], axis=-1).astype(np.uint8)[np.newaxis],
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe(number, segment, source, bundle) for number, segment in enumerate(segments, start=1)
        ],
        series_instance_uid=identity.segmentation_series_instance_uid,
        series_number=SEGMENTATION_SERIES_NUMBER,
        sop_instance_uid=identity.segmentation_sop_instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=bundle.name,
        software_versions=software_version(),
        device_serial_number=serial_number(bundle),
        content_label="CHEXNODE",
        content_description=series_description("segments", bundle),
        content_creator_name=f"{MANUFACTURER}^",
        series_description=series_description("segments", bundle),
        coding_schemes=coding_schemes()[1:3],
        contributing_equipment=[own_equipment(bundle, content_time)],
        omit_empty_frames=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    if geometry is SegmentationGeometry.NONE:
        # Type 2C where there is no Image Orientation (Patient) (PS3.3 C.7.6.1).
        dataset.PatientOrientation = list(header.get("PatientOrientation") or [])
    if "RequestAttributesSequence" in header:
        dataset.RequestAttributesSequence = copy.deepcopy(header.RequestAttributesSequence)
    replace_dimension_organization(dataset)
    complete(dataset, header, content_time)
    return dataset


def _invent_plane(image: Dataset, segmentation_sop_instance_uid: str) -> None:
    """Give the header-only copy of a projection image the plane that viewers ask a segmentation for."""
    image.FrameOfReferenceUID = derived_uid(segmentation_sop_instance_uid, "frame of reference")
    image.ImagePositionPatient = [0, 0, 0]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.SliceThickness = 1
    if "PixelSpacing" not in image:
        image.PixelSpacing = [1, 1]


def _describe(number: int, segment: Segment, source: SourceImage, bundle: BundleReference) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=_LABELS[segment],
        segmented_property_category=concept(segment.category_code),
        segmented_property_type=concept(segment.code),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm_of_segments(bundle),
        tracking_uid=source.identity.tracking_uids[segment_key(segment)],
        tracking_id=_LABELS[segment],
        display_color=CIELabColor(*segment.cielab),
    )
