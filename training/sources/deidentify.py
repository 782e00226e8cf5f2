"""De-identification of a radiograph on its way out of the PACS (PS3.15 annex E). Used by training/sources/pacs.py.

First an allow-list: what training does not need is gone, private attributes and whatever nobody thought of included.
Then the Basic Application Level Confidentiality Profile by dicom-anonymizer over what is left, with the option to
retain patient characteristics (age, at most 89 years, and sex).
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from copy import deepcopy
from importlib.metadata import version

from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, initialize_actions
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID

from node.intake.attributes import items, text

#: Table E.1-1 of this edition.
_PROFILE = "dicomfields_2026c"
#: HIPAA, 45 CFR 164.514(b)(2)(i)(C): ages over 89 are told apart from no other age.
_OLDEST_TOLD = 90
#: PS3.16 CID 7050.
_METHODS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113108", "Retain Patient Characteristics Option"),
)

#: Pixels and how they are shown; how large they are; what was imaged and how. No free text.
_KEPT = (
    *(
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "PatientID",
        "PatientAge",
        "PatientSex",
    ),
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelData", "PixelAspectRatio", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("PresentationLUTShape", "PixelIntensityRelationship", "PixelIntensityRelationshipSign"),
    *("PixelSpacing", "PixelSpacingCalibrationType", "ImagerPixelSpacing", "EstimatedRadiographicMagnificationFactor"),
    *("DistanceSourceToDetector", "DistanceSourceToPatient", "Modality", "BodyPartExamined", "ViewPosition"),
    *("PatientOrientation", "ImageLaterality", "PresentationIntentType", "KVP", "ImageType", "BurnedInAnnotation"),
)
#: Sequences, and what is kept of their items: tables of numbers, and codes without their meaning, which is free text.
_KEPT_ITEMS = {
    "ModalityLUTSequence": ("LUTDescriptor", "LUTData", "ModalityLUTType"),
    "VOILUTSequence": ("LUTDescriptor", "LUTData"),
    "ViewCodeSequence": ("CodeValue", "CodingSchemeDesignator"),
    "AnatomicRegionSequence": ("CodeValue", "CodingSchemeDesignator"),
}


_Action = Callable[[Dataset, tuple[int, int]], None]


class Pseudonyms:
    """Keyed hashes of identifiers: who has the key can make them again, nobody can turn them back."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, kind: str, identifier: str) -> str:
        """32 hexadecimal characters (128 bits of HMAC-SHA-256) for an identifier of this kind."""
        message = f"{kind}\0{identifier}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:32]

    def patient(self, header: Dataset) -> str:
        """The patient's; of an image without Patient ID the study's, since nothing says who it is.

        The issuer is left out: archives fill it in for some images of a patient and not for others, and two patients
        taken for one do no harm to a split, one taken for two does.
        """
        patient_id = text(header, "PatientID")
        return self.of("patient", patient_id) if patient_id else self.of("study", text(header, "StudyInstanceUID"))

    def uid(self, uid: str) -> str:
        """A UID under 2.25 (PS3.5 B.2)."""
        return str(UID(f"2.25.{int(self.of('uid', uid), 16)}"))


def deidentified(image: Dataset, pseudonyms: Pseudonyms, age_years: float | None) -> Dataset:
    """A new data set without anything that identifies; pixels are the same bytes. `image` stays as it is.

    Says nothing of what is burned into the pixels: the caller leaves such images out.
    """
    kept = _allowed(image)
    kept.PatientID = pseudonyms.patient(image)
    anonymize_dataset(kept, _own_actions(pseudonyms), base_rules_gen=lambda: initialize_actions(_PROFILE))
    kept.PatientName = ""
    kept.PatientSex = text(image, "PatientSex")[:1]
    if age_years is not None:
        kept.PatientAge = f"{min(int(age_years), _OLDEST_TOLD):03d}Y"
    kept.PatientIdentityRemoved = "YES"
    kept.DeidentificationMethod = f"allow-list, then dicom-anonymizer {version('dicom-anonymizer')}, {_PROFILE}"
    kept.DeidentificationMethodCodeSequence = [_code(value, meaning) for value, meaning in _METHODS]
    kept.LongitudinalTemporalInformationModified = "REMOVED"
    kept.file_meta = FileMetaDataset()
    kept.file_meta.MediaStorageSOPClassUID = kept.SOPClassUID
    kept.file_meta.MediaStorageSOPInstanceUID = kept.SOPInstanceUID
    kept.file_meta.TransferSyntaxUID = image.file_meta.TransferSyntaxUID
    return kept


def _allowed(image: Dataset) -> Dataset:
    kept = Dataset()
    _copy(image, kept, _KEPT)
    for keyword, inside in _KEPT_ITEMS.items():
        sequence = []
        for item in items(image, keyword):
            reduced = Dataset()
            _copy(item, reduced, inside)
            sequence.append(reduced)
        if sequence:
            setattr(kept, keyword, sequence)
    return kept


def _copy(source: Dataset, target: Dataset, keywords: tuple[str, ...]) -> None:
    for keyword in keywords:
        if keyword in source:
            # The library changes elements in place.
            target[keyword] = deepcopy(source[keyword])


def _own_actions(pseudonyms: Pseudonyms) -> Mapping[tuple[int, int], _Action]:
    """Instead of the library's: its UIDs are random and forgotten, its Patient ID is the same for everybody."""

    def keep(dataset: Dataset, tag: tuple[int, int]) -> None:
        pass

    def replace_uid(dataset: Dataset, tag: tuple[int, int]) -> None:
        if tag in dataset:
            dataset[tag].value = pseudonyms.uid(str(dataset[tag].value))

    actions: dict[tuple[int, int], _Action] = {(0x0010, 0x0020): keep}
    # SOP Instance, Study Instance, Series Instance UID.
    return actions | dict.fromkeys(((0x0008, 0x0018), (0x0020, 0x000D), (0x0020, 0x000E)), replace_uid)


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
