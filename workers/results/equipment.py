"""What every result object says about itself: its maker, its description, its dates, its patient and its study."""

import copy
import io
from datetime import datetime

from highdicom import ContributingEquipment
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, DT, TM

from schemas.codes import NOT_FOR_CLINICAL_USE
from schemas.identity import MANUFACTURER, software_version
from schemas.result import BundleReference
from workers.results.derived_uid import derived_uid
from workers.results.header import PATIENT_AND_STUDY, TYPE_2, positive_spacing

#: Series Number by kind of object: high, so that the results come after the images of the study.
REPORT_SERIES_NUMBER = 9501
SEGMENTATION_SERIES_NUMBER = 9502
SECONDARY_CAPTURE_SERIES_NUMBER = 9503

#: Once an image was compressed with loss, what is made of it says so (PS3.3 C.7.6.1.1.5).
LOSSY_COMPRESSION = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")

_LO_LENGTH = 64


def series_description(kind: str, bundle: BundleReference) -> str:
    """At most 64 ASCII characters; the notice is never what is cut off."""
    notice = "" if bundle.cleared_for_clinical_use else f" - {NOT_FOR_CLINICAL_USE.lower()}"
    text = f"{MANUFACTURER} {kind} {bundle.name} {bundle.version}".encode("ascii", "replace").decode()
    return text[: _LO_LENGTH - len(notice)].rstrip() + notice


def serial_number(bundle: BundleReference) -> str:
    """The bundle's digest names what computed the result."""
    return bundle.digest[:_LO_LENGTH]


def blank_header(header: Dataset, rows: int, columns: int) -> Dataset:
    """What highdicom needs to know of a source image: `header` (normalised) without anything of patient and study.

    Its checks would refuse values that archives hold, and its warnings print names; `complete` adds them afterwards.
    """
    blank = Dataset()
    for keyword in (
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "Manufacturer",
        "ManufacturerModelName",
        "DeviceSerialNumber",
        "SoftwareVersions",
        "StationName",
        "InstitutionName",
        *LOSSY_COMPRESSION,
    ):
        if keyword in header:
            blank[keyword] = copy.deepcopy(header[keyword])
    for keyword in TYPE_2:
        setattr(blank, keyword, "")
    blank.Modality = header.get("Modality", "")
    blank.Rows, blank.Columns = rows, columns
    if spacing := positive_spacing(header):
        blank.PixelSpacing = list(spacing)
    return blank


def own_equipment(bundle: BundleReference, content_time: datetime) -> ContributingEquipment:
    """Item of Contributing Equipment Sequence (PS3.3 C.12.1) for this software and its model."""
    return ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=bundle.name[:_LO_LENGTH],
        software_versions=software_version(),
        device_serial_number=serial_number(bundle),
        contribution_datetime=content_time,
        contribution_description="Analysis by a neural network",
    )


def complete(dataset: Dataset, header: Dataset, content_time: datetime) -> None:
    """Give `dataset`, as highdicom built it, its patient and study, the given time in place of the clock, its charset.

    `header` is normalised; `content_time` is local time.
    """
    for keyword in PATIENT_AND_STUDY:
        if keyword in header:
            dataset[keyword] = copy.deepcopy(header[keyword])
    for kind in ("InstanceCreation", "Content"):
        setattr(dataset, f"{kind}Date", DA(content_time.date()))
        setattr(dataset, f"{kind}Time", TM(content_time.time().replace(tzinfo=None)))
    for item in dataset.ContributingEquipmentSequence:
        if item.PurposeOfReferenceCodeSequence[0].CodeValue != codes.DCM.AcquisitionEquipment.value:
            item.ContributionDateTime = DT(content_time)
    if not _is_ascii(dataset):
        dataset.SpecificCharacterSet = "ISO_IR 192"


def replace_dimension_organization(dataset: Dataset) -> None:
    """Derive the Dimension Organization UID (PS3.3 C.7.6.17), which highdicom draws at random."""
    uid = derived_uid(dataset.SOPInstanceUID, "dimension organization")
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def part10_bytes(dataset: Dataset) -> bytes:
    """`dataset` as a DICOM file (PS3.10): the bytes that are stored, hashed and sent."""
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _is_ascii(dataset: Dataset) -> bool:
    for element in dataset:
        if element.VR == "SQ":
            if not all(_is_ascii(item) for item in element.value):
                return False
        elif element.VR in {"PN", "LO", "SH", "LT", "ST", "UT", "UC"} and not str(element.value).isascii():
            return False
    return True
