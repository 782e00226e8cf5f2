"""From which side a header says that an image was taken."""

from dataclasses import dataclass
from enum import StrEnum

from pydicom import Dataset

from node.intake.attributes import items, text, texts
from node.intake.body_part import IMAGE_DESCRIPTIONS, words


class View(StrEnum):
    PA = "PA"
    AP = "AP"
    #: Frontal, from the front or from the back unknown.
    FRONTAL = "frontal"
    LATERAL = "lateral"
    #: Oblique, axial, decubitus and the like.
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ViewStatement:
    view: View
    #: The attribute that says so, and what it says: a coded value, or of free text the word that decided.
    attribute: str = ""
    value: str = ""


def view_position(header: Dataset) -> ViewStatement:
    """View Position decides, then View Code Sequence, then the image's own descriptions, then Patient Orientation.

    Patient Orientation comes last: consoles write the frontal L\\F into every image, laterals included. The study's
    description says nothing about one of its images. Never raises.
    """
    stated = text(header, "ViewPosition")
    if stated and stated not in _SAYS_NOTHING:
        return ViewStatement(_by_words(stated) or View.OTHER, "View Position", stated)
    for item in items(header, "ViewCodeSequence"):
        code, meaning = text(item, "CodeValue"), text(item, "CodeMeaning")
        if code or meaning:
            view = _CODES.get(code) or _by_words(meaning.replace("-", "")) or View.OTHER
            return ViewStatement(view, "View Code Sequence", meaning or code)
    for keyword in IMAGE_DESCRIPTIONS:
        found = words(text(header, keyword)) & _WORDS.keys()
        # "PA and lateral" names the series, not the image.
        if len({_WORDS[word] for word in found}) == 1:
            return ViewStatement(_WORDS[min(found)], keyword, min(found))
    orientation = texts(header, "PatientOrientation")
    if len(orientation) == 2 and orientation[1][0] in "FH":
        side = View.FRONTAL if orientation[0][0] in "LR" else View.LATERAL if orientation[0][0] in "AP" else None
        if side:
            return ViewStatement(side, "Patient Orientation", "\\".join(orientation))
    return ViewStatement(View.UNKNOWN)


def _by_words(value: str) -> View | None:
    views = {_WORDS[word] for word in words(value) & _WORDS.keys()}
    return views.pop() if len(views) == 1 else None


_SAYS_NOTHING = {"UNKNOWN", "UNDEFINED", "NONE", "N/A", "DEFAULT", "OTHER"}

#: PS3.16 CID 4010, SNOMED CT and SNOMED-RT; every other code of it is another view.
_CODES = {
    **dict.fromkeys(("272479007", "R-10214", "R-40888"), View.PA),
    **dict.fromkeys(("399348003", "R-10206"), View.AP),
    **dict.fromkeys(("399033003", "R-10202"), View.FRONTAL),
    **dict.fromkeys(("399173006", "399198007", "399067008", "399352003", "399260004", "30730003"), View.LATERAL),
    **dict.fromkeys(("R-10236", "R-10232", "R-102CD", "R-10228", "R-10224", "G-A145"), View.LATERAL),
}

#: Defined Terms of View Position (PS3.3 C.8.11.5 and CR's C.8.1.1), and words in English, German, French, Spanish.
_WORDS = {
    **dict.fromkeys(("PA", "POSTEROANTERIOR"), View.PA),
    **dict.fromkeys(("AP", "ANTEROPOSTERIOR"), View.AP),
    **dict.fromkeys(("FRONTAL", "FACE"), View.FRONTAL),
    **dict.fromkeys(("LL", "RL", "LAT", "LATERAL", "LATERALE", "SEITLICH", "PROFIL", "PERFIL"), View.LATERAL),
    **dict.fromkeys(("LLD", "RLD", "DECUBITUS", "LAO", "RAO", "LPO", "RPO", "LLO", "RLO", "OBLIQUE"), View.OTHER),
    **dict.fromkeys(("SCHRAG", "OBLICUA", "AXIAL", "LORDOTIC"), View.OTHER),
}
