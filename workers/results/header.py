"""The header of a received image made fit for result objects: every value valid, none of it a reason to fail.

The standard's type 2 attributes are present, if need be empty; what is invalid is blank; text is Unicode.
"""

import contextlib
import math
import re
from collections.abc import Callable, Mapping, Sequence

from pydicom import config
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID
from pydicom.valuerep import DA, TM, PersonName

from schemas.errors import IdentityError
from workers.results.text import UNDECODABLE, decode, encodings_of, flag_undecodable, printable

#: Without these nothing can refer to the image; a received object has them (PS3.4 B.2.3).
IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

#: Patient, General Study and Patient Study modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2): type 2, always there.
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
TYPE_3 = (
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "OtherPatientIDsSequence",
    "PatientBirthTime",
    "EthnicGroup",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "AdmissionID",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "ProcedureCodeSequence",
    "ReferencedStudySequence",
)
#: What every result object of a study carries over from its images.
PATIENT_AND_STUDY = (*TYPE_2, *TYPE_3)

IMAGE = (
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "StationName",
    "InstitutionName",
    "AcquisitionDate",
    "AcquisitionTime",
    "FrameOfReferenceUID",
    "PatientOrientation",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "BodyPartExamined",
    "ViewPosition",
    "ImageLaterality",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "BurnedInAnnotation",
    "RequestAttributesSequence",
)

#: Attributes of sequence items that are carried over (code sequence macro, references, issuers, request attributes).
_IN_ITEMS = frozenset(
    {
        *("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning", "LongCodeValue", "URNCodeValue"),
        *("ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "StudyInstanceUID"),
        *("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType"),
        *("PatientID", "IssuerOfPatientID", "TypeOfPatientID"),
        *("AccessionNumber", "IssuerOfAccessionNumberSequence", "ReferencedStudySequence"),
        *("RequestedProcedureID", "RequestedProcedureDescription", "RequestedProcedureCodeSequence"),
        *("ScheduledProcedureStepID", "ScheduledProcedureStepDescription", "ScheduledProtocolCodeSequence"),
        *("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"),
    }
)
#: Longest value of a text VR (PS3.5 6.2), to which descriptions are cut.
_LENGTH = {"LO": 64, "SH": 16, "ST": 1024, "LT": 10240}
#: Left out where too long: cut, they would name another order; whole, the object would be invalid. The Study Instance
#: UID still says where the result belongs.
_WHOLE_OR_NOT = frozenset(
    {
        *("StudyID", "AccessionNumber", "AdmissionID", "RequestedProcedureID"),
        *("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"),
    }
)
#: What an item has to have to be worth carrying over.
_CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_REQUIRED_IN_ITEMS: Mapping[str, tuple[str, ...]] = {
    "ReferencedStudySequence": ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
    "OtherPatientIDsSequence": ("PatientID", "TypeOfPatientID"),
    "ProcedureCodeSequence": _CODE,
    "RequestedProcedureCodeSequence": _CODE,
    "ScheduledProtocolCodeSequence": _CODE,
    "DeidentificationMethodCodeSequence": _CODE,
}
#: Deeper than any attribute above nests; received objects may nest without end.
_MAXIMUM_DEPTH = 3


def normalise(header: Dataset) -> Dataset:
    """A copy of what result objects need of `header`, valid throughout, with text in Unicode.

    Specific Character Set is left out: whoever writes the object says ISO_IR 192 when its text is not plain ASCII.
    Raises IdentityError when the image has no SOP Class, SOP Instance, Study Instance or Series Instance UID.
    """
    encodings = encodings_of(_specific_character_set(header, [""]))
    clean = Dataset()
    for keyword in (*IDENTITY, *TYPE_2, *TYPE_3, *IMAGE):
        _copy(header, clean, keyword, encodings, depth=0)
    missing = [keyword for keyword in IDENTITY if not clean.get(keyword)]
    if missing:
        raise IdentityError(f"A source image has no {', '.join(missing)}.")
    for keyword in TYPE_2:
        if keyword not in clean:
            _set(clean, keyword, "")
    return clean


def request_attributes(header: Dataset) -> list[Dataset]:
    """Items of Request Attributes Sequence of a normalised header."""
    return list(header.get("RequestAttributesSequence") or [])


def positive_spacing(header: Dataset) -> tuple[float, float] | None:
    """Distance of rows and of columns in mm: Pixel Spacing, else Imager Pixel Spacing, of a normalised header."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        values = header.get(keyword) or []
        if len(values) == 2 and min(values) > 0:
            return float(values[0]), float(values[1])
    return None


def _copy(source: Dataset, target: Dataset, keyword: str, encodings: Sequence[str], depth: int) -> None:
    tag = Tag(tag_for_keyword(keyword) or 0)
    if tag not in source:
        return
    if dictionary_VR(tag) == "SQ":
        items = [_clean_item(item, encodings, depth + 1) for item in _items(source, tag)]
        required = _REQUIRED_IN_ITEMS.get(keyword, ())
        items = [item for item in items if len(item) and all(name in item for name in required)]
        if items:
            target.add(DataElement(tag, "SQ", items))
        return
    value = _clean(keyword, _text(source, tag, encodings))
    if value:
        _set(target, keyword, value)


def _clean_item(item: Dataset, encodings: Sequence[str], depth: int) -> Dataset:
    clean = Dataset()
    if depth > _MAXIMUM_DEPTH:
        return clean
    if declared := _specific_character_set(item, []):
        encodings = encodings_of(declared)
    for tag in sorted(item.keys()):
        if (keyword := keyword_for_tag(tag)) in _IN_ITEMS:
            _copy(item, clean, keyword, encodings, depth)
    return clean


def _items(source: Dataset, tag: BaseTag) -> list[Dataset]:
    try:
        return [item for item in source[tag].value or [] if isinstance(item, Dataset)]
    except Exception:  # noqa: BLE001 - parsing a damaged sequence raises whatever its bytes provoke
        return []


def _specific_character_set(source: Dataset, default: list[str]) -> list[str]:
    tag = Tag("SpecificCharacterSet")
    if tag not in source:
        return default
    return [term.strip() for term in _text(source, tag, ["ascii"]).split("\\")] or default


def _text(source: Dataset, tag: BaseTag, encodings: Sequence[str]) -> str:
    """The value of a text, number or UID attribute as it stands in the data set, values separated by a backslash."""
    element = source.get_item(tag)
    value = element.value if isinstance(element, (RawDataElement, DataElement)) else None
    if isinstance(value, PersonName) and isinstance(value.original_string, bytes):
        encodings = value.encodings or encodings
        value = value.original_string
    if value is None:
        return ""
    is_name = dictionary_VR(tag) == "PN"
    if isinstance(value, bytes):
        # The groups of a name are decoded one by one: each starts anew in the first character set (PS3.5 6.2.1.2).
        groups = value.split(b"=") if is_name else [value]
        return "=".join(decode(group, encodings, is_name=is_name) for group in groups)
    if isinstance(value, (str, PersonName, int, float)):
        return flag_undecodable(str(value))
    if isinstance(value, Sequence):
        return "\\".join(flag_undecodable(str(part)) for part in value)
    return ""


def _clean(keyword: str, text: str) -> str | list[str]:
    """The valid value of `keyword` that `text` gives, or "" when there is none."""
    tag = tag_for_keyword(keyword) or 0
    cleaner = _BY_KEYWORD.get(keyword) or _BY_VR.get(dictionary_VR(tag), printable)
    length = _LENGTH.get(dictionary_VR(tag))
    if keyword == "PatientID":
        length = None  # archives match patients by it: neither another one nor none
    elif keyword in _WHOLE_OR_NOT and length is not None and len(cleaner(text)) > length:
        return ""
    if dictionary_VM(tag) == "1":
        # A backslash would make two values of one.
        return cleaner(text).replace("\\", UNDECODABLE)[:length].rstrip(" ")
    values = [cleaner(part)[:length].rstrip(" ") for part in text.split("\\")]
    return values if all(values) else ""


def _set(target: Dataset, keyword: str, value: str | list[str]) -> None:
    tag = tag_for_keyword(keyword) or 0
    # Checked here, or too long on purpose; pydicom's warnings would print the patient's data.
    target.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))


def _date(text: str) -> str:
    text = printable(text).replace(".", "")
    with contextlib.suppress(ValueError):
        if re.fullmatch(r"\d{8}", text, re.ASCII) and DA(text):
            return text
    return ""


def _time(text: str) -> str:
    text = printable(text).replace(":", "")
    with contextlib.suppress(ValueError):
        if re.fullmatch(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?", text, re.ASCII) and TM(text) is not None:
            return text
    return ""


def _name(text: str) -> str:
    groups = [printable(group) for group in text.split("=")][:3]
    return "=".join(groups).rstrip("=^ ") and "=".join(groups).rstrip("=")


def _matching(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern, re.ASCII)

    def clean(text: str) -> str:
        text = printable(text)
        return text if compiled.fullmatch(text) else ""

    return clean


def _decimal(text: str) -> str:
    text = printable(text)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) and math.isfinite(float(text)):
        # A Decimal String has 16 characters (PS3.5 6.2).
        return text if len(text) <= 16 else f"{float(text):.10g}"
    return ""


def _uid(text: str) -> str:
    # Kept as it is even where a component starts with zero: it has to match the image.
    text = printable(text)
    return text if re.fullmatch(r"[0-9.]{1,64}", text) and UID(text) else ""


_BY_VR: Mapping[str, Callable[[str], str]] = {
    "AS": _matching(r"\d{3}[DWMY]"),
    "CS": _matching(r"[A-Z0-9 _]{1,16}"),
    "DA": _date,
    "DS": _decimal,
    "PN": _name,
    "TM": _time,
    "UI": _uid,
}
_BY_KEYWORD: Mapping[str, Callable[[str], str]] = {
    "PatientSex": _matching(r"[MFO]"),
    "PatientOrientation": _matching(r"[APRLHF]{1,3}"),
    "ImageLaterality": _matching(r"[RLUB]"),
    "LossyImageCompression": _matching(r"0[01]"),
    "PatientIdentityRemoved": _matching(r"YES|NO"),
    "BurnedInAnnotation": _matching(r"YES|NO"),
}
