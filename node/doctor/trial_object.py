"""The object that the doctor stores at a destination and deletes again: a tiny Secondary Capture of no patient."""

from datetime import UTC, datetime
from io import BytesIO

from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from node.delivery.parcel import Parcel
from schemas.identity import MANUFACTURER, software_version

PATIENT_ID = "CHEXNODE-DOCTOR"
_DESCRIPTION = "CheXNode doctor: test object, may be deleted"
_SIZE = 8


def trial_dataset(study_instance_uid: str) -> Dataset:
    """A Secondary Capture Image (PS3.3 A.8.1), 8 x 8, 8 bit, with fresh UIDs in that study.

    It names CheXNode as its manufacturer, so that a node that gets it back knows it for its own.
    """
    stamp = datetime.now(UTC).astimezone()
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = generate_uid(prefix=None)
    dataset.StudyInstanceUID = study_instance_uid
    dataset.SeriesInstanceUID = generate_uid(prefix=None)
    dataset.StudyDate = dataset.ContentDate = stamp.strftime("%Y%m%d")
    dataset.StudyTime = dataset.ContentTime = stamp.strftime("%H%M%S")
    dataset.PatientName = "CHEXNODE^DOCTOR"
    dataset.PatientID = PATIENT_ID
    dataset.StudyDescription = dataset.SeriesDescription = _DESCRIPTION
    dataset.Modality = "OT"
    dataset.ConversionType = "SYN"
    dataset.Manufacturer = MANUFACTURER
    dataset.SoftwareVersions = software_version()
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    for keyword in ("AccessionNumber", "PatientBirthDate", "PatientSex", "ReferringPhysicianName", "StudyID"):
        setattr(dataset, keyword, "")
    dataset.Laterality = dataset.PatientOrientation = ""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = _SIZE
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.PixelData = bytes(range(0, 256, 256 // _SIZE**2))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def as_parcel(dataset: Dataset) -> Parcel:
    """The object as the delivery workers hand it over."""
    content = BytesIO()
    dcmwrite(content, dataset, enforce_file_format=True)
    return Parcel(
        content.getvalue(),
        str(dataset.SOPClassUID),
        str(dataset.SOPInstanceUID),
        str(dataset.SeriesInstanceUID),
        str(dataset.StudyInstanceUID),
        None,
    )
