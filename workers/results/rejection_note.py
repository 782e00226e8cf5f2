"""A rejection note for result objects of our own: a Key Object Selection (PS3.3 A.35.4, PS3.16 TID 2010).

It tells a destination that they are not to be used any more (IHE RAD TF-3 4.66, Rejection Note Stored).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from highdicom import ContributingEquipment
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import CodeContentItem, CodedConcept, RelationshipTypeValues
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage

from schemas.codes import RejectionReason
from schemas.identity import MANUFACTURER, software_version
from workers.results.equipment import blank_header, complete
from workers.results.header import normalise
from workers.results.requests import referenced_requests

#: After the results that it speaks of.
REJECTION_NOTE_SERIES_NUMBER = 9504

_TITLE_MODIFIER = CodedConcept("113011", "DCM", "Document Title Modifier")
#: Why it is not good (CID 7011); asked for by that title alone.
_OTHER_FAILURE = CodedConcept("111220", "DCM", "Other failure")


@dataclass(frozen=True)
class ObjectIdentity:
    """An object that a rejection note names."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


def build_rejection_note(
    report: Dataset,
    rejected: Sequence[ObjectIdentity],
    reason: RejectionReason,
    sop_instance_uid: str,
    series_instance_uid: str,
    content_time: datetime,
) -> Dataset:
    """The note with title `reason` that names `rejected`, at least one object of the study of `report`.

    `report` is the result's own Structured Report, whose patient, study and requests the note takes over.
    """
    header = normalise(report)
    objects = [_reference(header, each) for each in rejected]
    content = KeyObjectSelection(CodedConcept(*_parts(reason)), objects)
    if reason is RejectionReason.QUALITY:
        modifier = CodeContentItem(_TITLE_MODIFIER, _OTHER_FAILURE, RelationshipTypeValues.HAS_CONCEPT_MOD)
        content[0].ContentSequence.insert(0, modifier)
    dataset = KeyObjectSelectionDocument(
        evidence=objects,
        content=content,
        series_instance_uid=series_instance_uid,
        series_number=REJECTION_NOTE_SERIES_NUMBER,
        sop_instance_uid=sop_instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        requested_procedures=referenced_requests([report]) or None,
        contributing_equipment=[
            ContributingEquipment(
                manufacturer=MANUFACTURER,
                purpose_of_reference=codes.DCM.ProcessingEquipment,
                manufacturer_model_name=MANUFACTURER,
                software_versions=software_version(),
                contribution_datetime=content_time,
                contribution_description="Withdrawal of results",
            )
        ],
        series_description=f"{MANUFACTURER} withdrawal of results",
    )
    complete(dataset, header, content_time)
    return dataset


def _reference(header: Dataset, identity: ObjectIdentity) -> Dataset:
    """What highdicom needs to know of an object to refer to it: images have rows, a report has none."""
    reference = blank_header(header, rows=1, columns=1)
    if identity.sop_class_uid == Comprehensive3DSRStorage:
        del reference.Rows, reference.Columns
    reference.SOPClassUID = identity.sop_class_uid
    reference.SOPInstanceUID = identity.sop_instance_uid
    reference.SeriesInstanceUID = identity.series_instance_uid
    return reference


def _parts(reason: RejectionReason) -> tuple[str, str, str]:
    return reason.code.value, reason.code.scheme, reason.code.meaning
