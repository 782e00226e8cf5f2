"""A phantom as a DICOM file: Digital X-Ray Image Storage - For Presentation (PS3.3 A.26)."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from training.plain.phantom.truth import Phantom

_BITS_STORED = 12
_CHARACTER_SETS = {True: "ISO_IR 100", False: "ISO_IR 192"}


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

    12 bits stored in 16, Explicit VR Little Endian, one linear VOI window over the whole range, detector-plane spacing.
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


def _add_study(dataset: Dataset, phantom: Phantom, order: Order) -> None:
    dataset.PatientName = order.patient_name
    dataset.PatientID = order.patient_id
    dataset.PatientBirthDate = "19600101"
    dataset.PatientSex = "O"
    dataset.PatientAge = "066Y"
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
    dataset.SeriesDescription = f"Chest {phantom.view_position}, simulated"
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
    dataset.ViewPosition = phantom.view_position
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageLaterality = "U"
    dataset.AnatomicRegionSequence = [_code("51185008", "SCT", "Thoracic structure")]
    view = {"PA": ("272479007", "postero-anterior"), "AP": ("399348003", "antero-posterior")}[phantom.view_position]
    dataset.ViewCodeSequence = [_code(view[0], "SCT", view[1])]
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []
    dataset.PatientOrientationCodeSequence = [
        _code("102538003", "SCT", "recumbent") if phantom.view_position == "AP" else _code("10904000", "SCT", "erect")
    ]
    dataset.PositionerType = ""
    dataset.DetectorType = "DIRECT"
    dataset.DetectorConfiguration = "AREA"
    dataset.ImagerPixelSpacing = [f"{phantom.mm_per_pixel:.6g}"] * 2
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
