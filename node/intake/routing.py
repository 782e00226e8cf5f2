"""Routing: which images are analysed by which bundle, and for every other image the reason why by none.

A pure function of the header and the active bundles: reception asks it once per image, keeps the answer, and the page
shows it. Whether an image is a frontal chest radiograph is one thing, for whom each bundle is made another
(node/intake/population.py).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from pydicom import Dataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from node.intake.attributes import items, number, text, texts
from node.intake.body_part import DESCRIPTIONS, BodyPart, body_part, words
from node.intake.population import made_for, takes
from node.intake.view_position import View, view_position
from schemas.bundle import Population
from schemas.identity import MANUFACTURER

#: Shorter sides are thumbnails, on which a tube is thinner than a pixel.
LEAST_SIDE_PIXELS = 256


class RouteReason(StrEnum):
    """Why an image is analysed or set aside; stored in the ledger."""

    #: It is analysed.
    SELECTED = "selected"
    #: One of our own results came back.
    OWN_OBJECT = "own_object"
    #: Reports, presentation states, documents.
    NOT_AN_IMAGE = "not_an_image"
    #: CT, mammography, secondary capture and so on.
    OTHER_SOP_CLASS = "other_sop_class"
    #: Raw detector data, not meant to be looked at.
    FOR_PROCESSING = "for_processing"
    #: The SOP class is a radiograph's, but Modality says something else.
    OTHER_MODALITY = "other_modality"
    NO_PIXEL_DATA = "no_pixel_data"
    COLOUR = "colour"
    MULTI_FRAME = "multi_frame"
    OTHER_BODY_PART = "other_body_part"
    BODY_PART_UNKNOWN = "body_part_unknown"
    NON_HUMAN = "non_human"
    LATERAL = "lateral"
    #: Oblique, decubitus, axial.
    OTHER_VIEW = "other_view"
    VIEW_UNKNOWN = "view_unknown"
    TOO_SMALL = "too_small"
    #: Age or view for which no active bundle is made.
    OUTSIDE_POPULATION = "outside_population"
    #: There is no active bundle.
    NO_BUNDLE = "no_bundle"
    #: A rejection note names it (node/intake/rejection.py); never the answer of routing itself.
    REJECTED = "rejected"


@dataclass(frozen=True)
class RoutedBundle:
    """What routing needs to know of an active bundle."""

    digest: str
    name: str
    population: Population


@dataclass(frozen=True)
class Route:
    reason: RouteReason
    #: One English sentence with the value that decided; never a patient's name.
    explanation: str
    #: Of a frontal chest radiograph PA, AP or FRONTAL, whether a bundle takes it or not; None of all else.
    view: View | None = None
    #: The patient's age at the examination; None when the header says none that can be believed.
    age_years: float | None = None
    #: Digests of the bundles that analyse it.
    bundles: tuple[str, ...] = ()

    @property
    def selected(self) -> bool:
        return bool(self.bundles)


def route(header: Dataset, bundles: Sequence[RoutedBundle], *, has_pixel_data: bool) -> Route:
    """Decide on one image. Total: whatever the header holds, there is an answer and no exception.

    Parameters
    ----------
    header
        The data set without its pixels.
    bundles
        The bundles that analyse at present.
    has_pixel_data
        Whether the object had a Pixel Data element with anything in it.
    """
    checks: tuple[Callable[[], _Verdict | None], ...] = (
        lambda: _object(header),
        lambda: _pixels(header, has_pixel_data),
        lambda: _body(header),
        lambda: _species(header),
        lambda: _view(header),
        lambda: _size(header),
    )
    for check in checks:
        verdict = check()
        if verdict is not None:
            return Route(verdict.reason, verdict.explanation)
    return _by_population(view_position(header).view, age_years(header), bundles)


def age_years(header: Dataset) -> float | None:
    """Patient's Age, or else from birth date to study date; None when neither can be believed."""
    match = re.fullmatch(r"(\d{1,3})([YMWD])", text(header, "PatientAge"))
    if match:
        return int(match[1]) / _PER_YEAR[match[2]]
    born = _date(header, "PatientBirthDate")
    examined = _date(header, "StudyDate") or _date(header, "AcquisitionDate") or _date(header, "ContentDate")
    if born is None or examined is None or born > examined:
        return None
    # Whole years as people count them: a birthday is a birthday in leap years too.
    before_birthday = (examined.month, examined.day) < (born.month, born.day)
    return float(examined.year - born.year - before_birthday)


def _by_population(view: View, age: float | None, bundles: Sequence[RoutedBundle]) -> Route:
    """What becomes of a frontal chest radiograph."""
    taking = tuple(each.digest for each in bundles if takes(each.population, view, age))
    if taking:
        explanation = f"The image is a frontal chest radiograph ({view.value})."
        return Route(RouteReason.SELECTED, explanation, view, age, taking)
    if not bundles:
        return Route(RouteReason.NO_BUNDLE, "No model is active; the image waits for one.", view, age)
    patient = "" if age is None else f" and the patient is {age:.0f} years old"
    made = "; ".join(f"{each.name} for {made_for(each.population)}" for each in bundles)
    explanation = f"The view is {view.value}{patient}, and no active model is made for that: {made}."
    return Route(RouteReason.OUTSIDE_POPULATION, explanation, view, age)


@dataclass(frozen=True)
class _Verdict:
    """Why the image is set aside."""

    reason: RouteReason
    explanation: str


def _object(header: Dataset) -> _Verdict | None:
    if text(header, "Manufacturer") == MANUFACTURER.upper():
        return _Verdict(RouteReason.OWN_OBJECT, f"The object was made by {MANUFACTURER} itself.")
    sop_class = text(header, "SOPClassUID")
    if sop_class == DigitalXRayImageStorageForProcessing or text(header, "PresentationIntentType") == "FOR PROCESSING":
        return _Verdict(
            RouteReason.FOR_PROCESSING, "The image is raw data for processing; its presentation version is analysed."
        )
    if sop_class not in _RADIOGRAPHS and not _is_rewrapped_radiograph(header):
        name = _shown(header, UID(sop_class).name)
        if number(header, "Rows") is None:
            return _Verdict(RouteReason.NOT_AN_IMAGE, f"The object is not an image: its SOP class is {name}.")
        return _Verdict(
            RouteReason.OTHER_SOP_CLASS,
            f"The SOP class is {name}, neither Computed Radiography nor Digital X-Ray for presentation.",
        )
    modality = text(header, "Modality")
    if modality not in _MODALITIES:
        return _Verdict(RouteReason.OTHER_MODALITY, f"The modality is {_shown(header, modality)}, not CR or DX.")
    return None


def _is_rewrapped_radiograph(header: Dataset) -> bool:
    """Whether a Secondary Capture is a radiograph that a digitiser, gateway or export wrapped anew.

    Captures of workstations carry the study's modality too: body part and view must be said in so many words, and the
    image must not call itself derived.
    """
    return (
        text(header, "SOPClassUID") == SecondaryCaptureImageStorage
        and text(header, "Modality") in ("CR", "DX")
        and bool(text(header, "BodyPartExamined"))
        and bool(text(header, "ViewPosition"))
        and "DERIVED" not in texts(header, "ImageType")
    )


def _pixels(header: Dataset, has_pixel_data: bool) -> _Verdict | None:
    if not has_pixel_data:
        return _Verdict(RouteReason.NO_PIXEL_DATA, "The object has no pixel data.")
    samples, photometric = number(header, "SamplesPerPixel"), text(header, "PhotometricInterpretation")
    if (samples or 1) > 1 or photometric not in ("", "MONOCHROME1", "MONOCHROME2"):
        return _Verdict(
            RouteReason.COLOUR,
            f"The image is not grey: Photometric Interpretation is {_shown(header, photometric)} "
            f"with {samples or 1:.0f} sample(s) per pixel.",
        )
    frames = number(header, "NumberOfFrames")
    if frames is not None and frames > 1:
        return _Verdict(RouteReason.MULTI_FRAME, f"The image has {frames:.0f} frames; single frames are analysed.")
    return None


def _body(header: Dataset) -> _Verdict | None:
    found = body_part(header)
    if found.body_part is BodyPart.OTHER:
        return _Verdict(
            RouteReason.OTHER_BODY_PART, f"{found.attribute} says {_shown(header, found.value)}, not chest."
        )
    if found.body_part is BodyPart.UNKNOWN:
        return _Verdict(
            RouteReason.BODY_PART_UNKNOWN,
            "Neither Body Part Examined, Anatomic Region Sequence nor a description says which body part it is.",
        )
    return None


def _species(header: Dataset) -> _Verdict | None:
    # Consoles of veterinary clinics often leave the species out, but their menus name it.
    species = text(header, "PatientSpeciesDescription")
    stated = [species] if species else []
    stated += [text(item, "CodeMeaning") or "?" for item in _not_human_codes(header)]
    found = next((value for value in stated if not words(value) & _HUMAN), "")
    if not found:
        menus = set().union(*(words(text(header, keyword)) for keyword in DESCRIPTIONS))
        found = min(menus & _ANIMALS, default="")
    if found:
        return _Verdict(RouteReason.NON_HUMAN, f"The patient is an animal: {_shown(header, found)}.")
    return None


def _not_human_codes(header: Dataset) -> Iterator[Dataset]:
    for item in items(header, "PatientSpeciesCodeSequence"):
        if text(item, "CodeValue") not in _HUMAN_CODES:
            yield item


def _view(header: Dataset) -> _Verdict | None:
    found = view_position(header)
    said = f"{found.attribute} says {_shown(header, found.value)}"
    if found.view is View.LATERAL:
        return _Verdict(RouteReason.LATERAL, f"The image is a lateral view: {said}.")
    if found.view is View.OTHER:
        return _Verdict(RouteReason.OTHER_VIEW, f"The image is not a frontal view: {said}.")
    if found.view is View.UNKNOWN:
        return _Verdict(
            RouteReason.VIEW_UNKNOWN,
            "Neither View Position, View Code Sequence, a description nor Patient Orientation says which view it is.",
        )
    return None


def _size(header: Dataset) -> _Verdict | None:
    rows, columns = number(header, "Rows") or 0, number(header, "Columns") or 0
    if min(rows, columns) < LEAST_SIDE_PIXELS:
        return _Verdict(
            RouteReason.TOO_SMALL,
            f"The image has {rows:.0f} x {columns:.0f} pixels; the shorter side must have {LEAST_SIDE_PIXELS}.",
        )
    return None


def _date(header: Dataset, keyword: str) -> date | None:
    value = text(header, keyword)
    # strptime would also take "2020101" and Arabic digits.
    if not re.fullmatch(r"[0-9]{8}", value):
        return None
    try:
        return datetime.strptime(value, "%Y%m%d").date()
    except ValueError:
        return None


def _shown(header: Dataset, value: str) -> str:
    """A value of the header as an explanation may show it: short, printable, and no part of the patient's name."""
    if not value:
        return "(empty)"
    if words(value) & words(text(header, "PatientName")):
        return "(withheld)"
    printable = "".join(character if character.isprintable() else "?" for character in value)
    return printable if len(printable) <= 64 else f"{printable[:64]}..."


#: Modality of the two IODs, two that consoles write instead, and none: the SOP class has said it already.
_RADIOGRAPHS = (ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation)
_MODALITIES = ("CR", "DX", "DR", "RG", "")
_PER_YEAR = {"Y": 1.0, "M": 12.0, "W": 52.1775, "D": 365.2425}
_HUMAN = {"HUMAN", "HOMO", "SAPIENS", "MENSCH", "HUMANO", "HUMAIN"}
#: Homo sapiens in SNOMED CT and SNOMED-RT (PS3.16 CID 7454).
_HUMAN_CODES = {"337915000", "L-85003"}
_ANIMALS = {"CANINE", "FELINE", "EQUINE", "VETERINARY", "DOG"}
