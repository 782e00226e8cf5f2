"""Which part of the body a header says that an image shows, as far as "chest or not" goes."""

import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from pydicom import Dataset

from node.intake.attributes import items, text

#: Free text that names the image. Acquisition Device Processing Description holds the name of the console's menu.
IMAGE_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
#: The study's comes last: a study may have images of several parts.
DESCRIPTIONS = (*IMAGE_DESCRIPTIONS, "StudyDescription")


class BodyPart(StrEnum):
    CHEST = "chest"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class BodyPartStatement:
    body_part: BodyPart
    #: The attribute that says so, and what it says: a coded value, or of free text the word that decided.
    attribute: str = ""
    value: str = ""


def body_part(header: Dataset) -> BodyPartStatement:
    """Body Part Examined decides, then Anatomic Region Sequence, then the descriptions. Never raises."""
    stated = text(header, "BodyPartExamined")
    if stated and stated not in _SAYS_NOTHING:
        chest_only = words(stated) & _CHEST and not words(stated) & _OTHER
        return BodyPartStatement(BodyPart.CHEST if chest_only else BodyPart.OTHER, "Body Part Examined", stated)
    for item in items(header, "AnatomicRegionSequence"):
        code, meaning = text(item, "CodeValue"), text(item, "CodeMeaning")
        if code in _CHEST_CODES or (words(meaning) & _CHEST and not words(meaning) & _OTHER):
            return BodyPartStatement(BodyPart.CHEST, "Anatomic Region Sequence", meaning or code)
        if code or meaning:
            return BodyPartStatement(BodyPart.OTHER, "Anatomic Region Sequence", meaning or code)
    for keyword in DESCRIPTIONS:
        found = words(text(header, keyword))
        chest, other = found & _CHEST, found & _OTHER
        # "Chest and abdomen" names a study of two images; another description has to tell which one this is.
        if bool(chest) != bool(other):
            part = BodyPart.CHEST if chest else BodyPart.OTHER
            return BodyPartStatement(part, keyword, min(chest or other))
    return BodyPartStatement(BodyPart.UNKNOWN)


def words(value: str) -> set[str]:
    """The words of a text in upper case without accents; digits and punctuation separate words."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", value.replace("ß", "ss")) if not unicodedata.combining(c))
    return set("".join(c if c.isalpha() else " " for c in plain).upper().split())


#: Defaults of consoles, and answers that are none.
_SAYS_NOTHING = {"UNKNOWN", "UNDEFINED", "OTHER", "MISC", "MISCELLANEOUS", "DEFAULT", "NONE", "ANY", "N/A", "BODY"}

#: Thorax and Lung in SNOMED CT, and as SNOMED-RT wrote them (PS3.16 CID 4031).
_CHEST_CODES = {"51185008", "816094009", "39607008", "T-D3000", "T-28000"}

#: English, German, French, Spanish (Italian and Portuguese come with them); only words that can mean nothing else.
_CHEST = {
    *("CHEST", "THORAX", "CXR", "LUNG", "LUNGS"),
    *("LUNGE", "LUNGEN", "BRUSTKORB", "ROENTGENTHORAX", "RONTGENTHORAX", "THORAXAUFNAHME"),
    *("POUMON", "POUMONS"),
    *("TORAX", "PULMON", "PULMONES"),
}
_OTHER = {
    *("ABDOMEN", "ABDOMINAL", "KUB", "PELVIS", "SPINE", "CSPINE", "TSPINE", "LSPINE", "CERVICAL", "LUMBAR", "SACRUM"),
    *("HIP", "HIPS", "FEMUR", "KNEE", "KNEES", "TIBIA", "ANKLE", "FOOT", "FEET", "TOE", "TOES", "HEEL", "LEG", "LEGS"),
    *("SHOULDER", "CLAVICLE", "SCAPULA", "HUMERUS", "ELBOW", "FOREARM", "WRIST", "HAND", "HANDS", "FINGER", "FINGERS"),
    *("ARM", "SKULL", "SINUS", "SINUSES", "JAW", "TEETH", "NECK", "RIB", "RIBS", "STERNUM", "BREAST"),
    *("EXTREMITY", "MAMMOGRAPHY", "PHANTOM"),
    *("BAUCH", "BECKEN", "WIRBELSAULE", "HWS", "BWS", "LWS", "HUFTE", "OBERSCHENKEL", "KNIE", "UNTERSCHENKEL"),
    *("SPRUNGGELENK", "FUSS", "SCHULTER", "OBERARM", "ELLBOGEN", "UNTERARM", "HANDGELENK", "SCHADEL", "RIPPEN", "HALS"),
    *("BASSIN", "RACHIS", "HANCHE", "GENOU", "CHEVILLE", "PIED", "EPAULE", "COUDE", "POIGNET", "CRANE", "COTES"),
    *("COLUMNA", "CADERA", "RODILLA", "TOBILLO", "HOMBRO", "CODO", "MUNECA", "MANO", "CRANEO", "COSTILLAS", "CUELLO"),
}
