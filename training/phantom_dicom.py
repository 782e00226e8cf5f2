"""A phantom as a DICOM file: Digital X-Ray Image Storage - For Presentation (PS3.3 A.26)."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from training.phantom.truth import Phantom, View

_BITS_STORED = 12
_CHARACTER_SETS = {True: "ISO_IR 100", False: "ISO_IR 192"}
#: View Code (CID 4010), directions of a row and of a column (0020,0020).
_VIEWS = {
    View.PA: ("272479007", "postero-anterior", ["L", "F"]),
    View.AP: ("399348003", "antero-posterior", ["L", "F"]),
    View.LATERAL: ("399173006", "left lateral", ["P", "F"]),
}


@dataclass(frozen=True)
class Order:
    """Who and what the image belongs to; two phantoms of one order are two images of one study."""

    patient_name: str = "Phantom^Chest"
    patient_id: str = "PHANTOM"
    accession_number: str = ""
    #: Minted from the seed when empty.
    study_instance_uid: str = ""
    #: YYYYMMDD and HHMMSS.
    study_date: str = "20260101"
    study_time: str = "120000"


def phantom_dataset(
    phantom: Phantom,
    order: Order,
    photometric_interpretation: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
    instance_number: int = 1,
) -> FileDataset:
    """The image as a data set that `save_as(path, enforce_file_format=True)` writes; equal input gives equal UIDs.

    12 bits stored in 16, Explicit VR Little Endian, one linear VOI window over the whole range; the spacing is that of
    the detector plane, and the magnification says how much larger the carina is there.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = seeded_uid("instance", phantom.seed, instance_number, photometric_interpretation)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = _CHARACTER_SETS[order.patient_name.isascii()]
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    _add_study(dataset, phantom, order)
    _add_series(dataset, phantom)
    _add_acquisition(dataset, phantom, order)
    _add_pixels(dataset, phantom, photometric_interpretation)
    dataset.InstanceNumber = instance_number
    return dataset


def seeded_uid(*parts: object) -> UID:
    """A UID under 2.25 (PS3.5 B.2) that depends on the parts only."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def age_string(age_years: float) -> str:
    """An Age String (PS3.5 table 6.2-1): years, below two years months, below three months days."""
    if age_years >= 2:
        return f"{int(age_years):03d}Y"
    if age_years >= 0.25:
        return f"{int(age_years * 12):03d}M"
    return f"{int(age_years * 365.25):03d}D"


def _birth_date(age_years: float, study_date: str) -> str:
    """YYYYMMDD, so that the age is full on the day of the study."""
    taken = datetime.strptime(study_date, "%Y%m%d")
    return (taken - timedelta(days=age_years * 365.25)).strftime("%Y%m%d")


def _add_study(dataset: Dataset, phantom: Phantom, order: Order) -> None:
    dataset.PatientName = order.patient_name
    dataset.PatientID = order.patient_id
    dataset.PatientBirthDate = _birth_date(phantom.age_years, order.study_date)
    dataset.PatientSex = phantom.sex
    dataset.PatientAge = age_string(phantom.age_years)
    dataset.StudyInstanceUID = order.study_instance_uid or seeded_uid("study", phantom.seed, order.patient_id)
    dataset.StudyDate = order.study_date
    dataset.StudyTime = order.study_time
    dataset.StudyID = "1"
    dataset.StudyDescription = "Chest phantom"
    dataset.AccessionNumber = order.accession_number
    dataset.ReferringPhysicianName = ""


def _add_series(dataset: Dataset, phantom: Phantom) -> None:
    dataset.Modality = "DX"
    dataset.SeriesInstanceUID = seeded_uid("series", dataset.StudyInstanceUID, phantom.seed)
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = f"Chest {phantom.view.value}, simulated"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    # Not the maker of results: the node would set its own objects aside.
    dataset.Manufacturer = "CheXNode phantom"
    dataset.ManufacturerModelName = "Chest phantom"
    dataset.DeviceSerialNumber = str(phantom.seed)
    dataset.SoftwareVersions = "1"


def _add_acquisition(dataset: Dataset, phantom: Phantom, order: Order) -> None:
    """DX anatomy, positioning and detector (PS3.3 C.8.11), and the empty acquisition context."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.AcquisitionDate = dataset.ContentDate = order.study_date
    dataset.AcquisitionTime = dataset.ContentTime = order.study_time
    dataset.AcquisitionNumber = 1
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = phantom.view.value
    value, meaning, orientation = _VIEWS[phantom.view]
    dataset.PatientOrientation = orientation
    dataset.ImageLaterality = "U"
    dataset.AnatomicRegionSequence = [_code("51185008", "SCT", "Thoracic structure")]
    dataset.ViewCodeSequence = [_code(value, "SCT", meaning)]
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []
    lying = phantom.view is View.AP
    dataset.PatientOrientationCodeSequence = [
        _code("102538003", "SCT", "recumbent") if lying else _code("10904000", "SCT", "erect")
    ]
    dataset.PositionerType = ""
    dataset.DetectorType = "DIRECT"
    dataset.DetectorConfiguration = "AREA"
    dataset.ImagerPixelSpacing = [f"{phantom.imager_mm_per_pixel:.6g}"] * 2
    dataset.EstimatedRadiographicMagnificationFactor = f"{phantom.magnification:.6g}"
    dataset.KVP = "110"
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.AcquisitionContextSequence = []


def _add_pixels(
    dataset: Dataset, phantom: Phantom, photometric_interpretation: Literal["MONOCHROME1", "MONOCHROME2"]
) -> None:
    greatest = 2**_BITS_STORED - 1
    values = np.round(phantom.image * greatest).astype("<u2")
    inverse = photometric_interpretation == "MONOCHROME1"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric_interpretation
    dataset.Rows, dataset.Columns = phantom.image.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = _BITS_STORED
    dataset.HighBit = _BITS_STORED - 1
    dataset.PixelRepresentation = 0
    dataset.PixelIntensityRelationship = "LOG"
    # Small values for more X-rays at the detector are +1 when shown bright (PS3.3 C.8.11.3.1.2).
    dataset.PixelIntensityRelationshipSign = 1 if inverse else -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    dataset.WindowCenter, dataset.WindowWidth = str(2 ** (_BITS_STORED - 1)), str(2**_BITS_STORED)
    dataset.PixelData = (greatest - values if inverse else values).tobytes()


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
