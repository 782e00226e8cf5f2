"""What the worklist shows and searches of a study, taken from the header of its latest image."""

import re
import unicodedata

from pydicom import Dataset

from node.received import text
from node.triage import order_priority
from schemas.tables import Study

#: Separators of the components of a Person Name (PS3.5 6.2.1).
_NAME_PARTS = re.compile(r"[\^=\s]+")


def describe(study: Study, header: Dataset) -> None:
    """Take over patient, order and date; a correction that came later counts."""
    study.patient_id = text(header, "PatientID")
    study.accession_number = text(header, "AccessionNumber")
    study.patient_name = text(header, "PatientName")
    study.patient_birth_date = _digits(text(header, "PatientBirthDate"), 8)
    study.patient_sex = text(header, "PatientSex")[:16]
    study.study_description = text(header, "StudyDescription")
    date, time = _digits(text(header, "StudyDate"), 8), _digits(text(header, "StudyTime").split(".")[0], 6)
    study.study_date_time = date + time if len(date) == 8 else ""
    study.order_priority = order_priority(header)
    study.search_text = searchable(
        " ".join([study.patient_name, study.patient_id, study.accession_number, study.study_description])
    )


def searchable(text: str) -> str:
    """The text as the search compares it: NFKC, case-folded, the parts of names apart by one space, without NUL."""
    return _NAME_PARTS.sub(" ", unicodedata.normalize("NFKC", text.replace("\0", " "))).casefold().strip()


def _digits(value: str, length: int) -> str:
    return "".join(character for character in value if character.isascii() and character.isdigit())[:length]
