"""What the worklist shows and searches of a study, taken from the headers of its objects."""

import re
import unicodedata

from pydicom import Dataset

from node.intake.received import text
from schemas.tables import Study

#: Separators of the components of a Person Name (PS3.5 6.2.1).
_NAME_PARTS = re.compile(r"[\^=\s]+")


def describe(study: Study, header: Dataset) -> None:
    """Take over patient, order number and date of an object: a later correction counts, an omission does not."""
    study.patient_id = text(header, "PatientID") or study.patient_id or ""
    study.accession_number = text(header, "AccessionNumber") or study.accession_number or ""
    study.patient_name = text(header, "PatientName") or study.patient_name or ""
    study.patient_birth_date = _digits(text(header, "PatientBirthDate"), 8) or study.patient_birth_date or ""
    study.patient_sex = text(header, "PatientSex")[:16] or study.patient_sex or ""
    study.study_description = text(header, "StudyDescription") or study.study_description or ""
    date, time = _digits(text(header, "StudyDate"), 8), _digits(text(header, "StudyTime").split(".")[0], 6)
    study.study_date_time = (date + time if len(date) == 8 else "") or study.study_date_time or ""
    study.search_text = searchable(
        " ".join([study.patient_name, study.patient_id, study.accession_number, study.study_description])
    )


def searchable(text: str) -> str:
    """The text as the search compares it: NFKC, case-folded, the parts of names apart by one space, without NUL."""
    return _NAME_PARTS.sub(" ", unicodedata.normalize("NFKC", text.replace("\0", " "))).casefold().strip()


def _digits(value: str, length: int) -> str:
    return "".join(character for character in value if character.isascii() and character.isdigit())[:length]
