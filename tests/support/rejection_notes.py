"""Rejection notes (IHE Imaging Object Change Management) as a PACS writes them."""

from pathlib import Path
from typing import Any

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from schemas.codes import RejectionReason


def write_note(path: Path, named: list[Dataset], reason: RejectionReason, **changes: Any) -> Dataset:
    """A rejection note in the study of what it names, but for `changes` of its attributes."""
    code = reason.code
    note = KeyObjectSelectionDocument(
        evidence=named,
        content=KeyObjectSelection(CodedConcept(code.value, code.scheme, code.meaning), named),
        series_instance_uid=generate_uid(prefix=None),
        series_number=99,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer="A PACS",
    )
    note.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in changes.items():
        setattr(note, keyword, value)
    note.save_as(path, enforce_file_format=True)
    return note
