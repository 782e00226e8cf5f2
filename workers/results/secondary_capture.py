"""The overlay as a Secondary Capture image (PS3.3 A.8.1), for viewers that show neither reports nor segmentations."""

import copy
from datetime import datetime

import numpy as np
from highdicom.sc import SCImage
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM

from schemas.codes import Code
from schemas.identity import MANUFACTURER, software_version
from schemas.result import BundleReference
from workers.results.coding import concept
from workers.results.equipment import (
    LOSSY_COMPRESSION,
    SECONDARY_CAPTURE_SERIES_NUMBER,
    complete,
    own_equipment,
    serial_number,
    series_description,
)
from workers.results.header import normalise
from workers.results.source import SourceImage

#: Longest side in pixels: three bytes a pixel, for orientation and not for reading.
MAXIMUM_SIDE = 1024


def build_secondary_capture(
    source: SourceImage, overlay_rgb: NDArray[np.uint8], bundle: BundleReference, content_time: datetime
) -> Dataset:
    """`overlay_rgb` [rows, columns, 3], scaled down to `MAXIMUM_SIDE`, as an RGB image without a spacing."""
    header = normalise(source.header)
    dataset = SCImage(
        pixel_array=_scaled_down(overlay_rgb),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        # What highdicom insists on; the image's own, or empty, follows below.
        patient_orientation=("L", "F"),
        study_instance_uid=header.StudyInstanceUID,
        series_instance_uid=source.identity.secondary_capture_series_instance_uid,
        series_number=SECONDARY_CAPTURE_SERIES_NUMBER,
        sop_instance_uid=source.identity.secondary_capture_sop_instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=bundle.name,
        software_versions=software_version(),
        device_serial_number=serial_number(bundle),
        series_description=series_description("overlay", bundle),
        contributing_equipment=[own_equipment(bundle, content_time)],
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    dataset.PatientOrientation = list(header.get("PatientOrientation") or [])
    # Only chests are analysed, and an unpaired body part has no Laterality, which else were type 2C (PS3.3 C.7.3.1).
    dataset.BodyPartExamined = "CHEST"
    dataset.DateOfSecondaryCapture = DA(content_time.date())
    dataset.TimeOfSecondaryCapture = TM(content_time.time().replace(tzinfo=None))
    dataset.DerivationDescription = "Overlay of analysis results on the source image"
    dataset.SourceImageSequence = [_source(header)]
    for keyword in (*LOSSY_COMPRESSION, "BurnedInAnnotation", "RequestAttributesSequence"):
        if keyword in header:
            dataset[keyword] = copy.deepcopy(header[keyword])
    complete(dataset, header, content_time)
    return dataset


def _scaled_down(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = image.shape[:2]
    factor = MAXIMUM_SIDE / max(rows, columns)
    if factor >= 1:
        return image
    size = max(1, round(columns * factor)), max(1, round(rows * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _source(header: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = header.SOPClassUID
    reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    reference.PurposeOfReferenceCodeSequence = [concept(Code(purpose.value, "DCM", purpose.meaning))]
    return reference
