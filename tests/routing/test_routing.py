from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import DataElement, Dataset, Sequence
from pydicom.datadict import keyword_dict, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from node.intake.routing import Route, RoutedBundle, RouteReason, route
from schemas.bundle import Population

_ADULTS = Population(minimum_age_years=18)
_CR = "1.2.840.10008.5.1.4.1.1.1"
_DX = "1.2.840.10008.5.1.4.1.1.1.1"


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _chest(**changes: Any) -> Dataset:
    """A PA chest radiograph; a change to None leaves the attribute out."""
    attributes = {
        "SOPClassUID": _DX,
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "Rows": 2500,
        "Columns": 2048,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PatientName": "Mustermann^Erika",
        "PatientAge": "060Y",
        **changes,
    }
    return _item(**{keyword: value for keyword, value in attributes.items() if value is not None})


def _routed(population: Population = _ADULTS, has_pixel_data: bool = True, **changes: Any) -> Route:
    return route(_chest(**changes), [RoutedBundle("d", "model", population)], has_pixel_data=has_pixel_data)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"SOPClassUID": _CR, "Modality": "CR"},
        {"ViewPosition": "AP"},
        {"BodyPartExamined": "thorax "},
        {"BodyPartExamined": None, "AnatomicRegionSequence": [_item(CodeValue="51185008", CodeMeaning="Thorax")]},
        {"BodyPartExamined": None, "AnatomicRegionSequence": [_item(CodeValue="T-D3000")]},
        {"BodyPartExamined": "UNKNOWN", "SeriesDescription": "Röntgen-Thorax p.a."},
        {"BodyPartExamined": None, "StudyDescription": "RX TÓRAX 1 VISTA"},
        {"BodyPartExamined": None, "StudyDescription": "Radio thorax de face"},
        {"BodyPartExamined": None, "SeriesDescription": "Lunge", "StudyDescription": "Lunge und Becken"},
        {"ViewPosition": None, "ViewCodeSequence": [_item(CodeValue="399348003", CodeMeaning="antero-posterior")]},
        {"ViewPosition": None, "ViewCodeSequence": [_item(CodeMeaning="Postero-anterior")]},
        {"ViewPosition": None, "SeriesDescription": "W Chest PA"},
        {"ViewPosition": "", "PatientOrientation": ["L", "F"]},
        {"PatientAge": None},
        {"PatientAge": "62"},
        {"PatientAge": "018Y"},
        {"PatientAge": None, "PatientBirthDate": "20000101", "StudyDate": "20180101"},
        {"PatientAge": None, "PatientBirthDate": "d14a028c2a3a2bc9", "StudyDate": "20180101"},
        {"PatientSpeciesDescription": "Homo sapiens"},
        {"PatientSpeciesCodeSequence": [_item(CodeValue="337915000", CodeMeaning="homo sapiens")]},
        {"NumberOfFrames": "1"},
        {"ImageType": ["DERIVED", "PRIMARY"]},
    ],
)
def test_frontal_chest_radiographs_of_adults_are_selected(changes: dict[str, Any]) -> None:
    found = _routed(**changes)
    assert (found.selected, found.reason) == (True, RouteReason.SELECTED), found.explanation


@pytest.mark.parametrize(
    ("changes", "reason", "explanation"),
    [
        ({"Manufacturer": "CheXNode"}, RouteReason.OWN_OBJECT, "CheXNode"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33", "Rows": None}, RouteReason.NOT_AN_IMAGE, "SR"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, RouteReason.OTHER_SOP_CLASS, "CT Image Storage"),
        ({"SOPClassUID": None}, RouteReason.OTHER_SOP_CLASS, "(empty)"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}, RouteReason.FOR_PROCESSING, "for processing"),
        ({"PresentationIntentType": "FOR PROCESSING"}, RouteReason.FOR_PROCESSING, "for processing"),
        ({"Modality": "MG"}, RouteReason.OTHER_MODALITY, "MG"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, RouteReason.COLOUR, "RGB"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, RouteReason.COLOUR, "PALETTE COLOR"),
        ({"NumberOfFrames": "12"}, RouteReason.MULTI_FRAME, "12 frames"),
        ({"BodyPartExamined": "HAND"}, RouteReason.OTHER_BODY_PART, "HAND"),
        ({"BodyPartExamined": "TSPINE"}, RouteReason.OTHER_BODY_PART, "TSPINE"),
        ({"BodyPartExamined": "CHESTABDPELVIS"}, RouteReason.OTHER_BODY_PART, "CHESTABDPELVIS"),
        (
            {
                "BodyPartExamined": None,
                "AnatomicRegionSequence": [_item(CodeValue="T-11502", CodeMeaning="Thoracic spine")],
            },
            RouteReason.OTHER_BODY_PART,
            "THORACIC SPINE",
        ),
        ({"BodyPartExamined": None, "StudyDescription": "Beckenübersicht"}, RouteReason.BODY_PART_UNKNOWN, "body part"),
        ({"BodyPartExamined": None, "StudyDescription": "Knie rechts"}, RouteReason.OTHER_BODY_PART, "KNIE"),
        (
            {"BodyPartExamined": None, "StudyDescription": "Chest and abdomen"},
            RouteReason.BODY_PART_UNKNOWN,
            "body part",
        ),
        ({"ViewPosition": "LL"}, RouteReason.LATERAL, "LL"),
        ({"ViewPosition": "LATERAL"}, RouteReason.LATERAL, "LATERAL"),
        ({"ViewPosition": "LLD"}, RouteReason.OTHER_VIEW, "LLD"),
        ({"ViewPosition": "RAO"}, RouteReason.OTHER_VIEW, "RAO"),
        (
            {"ViewPosition": None, "ViewCodeSequence": [_item(CodeValue="R-10236", CodeMeaning="left lateral")]},
            RouteReason.LATERAL,
            "LEFT LATERAL",
        ),
        # The console's default orientation does not overrule what the series is called.
        (
            {"ViewPosition": None, "SeriesDescription": "Thorax seitlich", "PatientOrientation": ["L", "F"]},
            RouteReason.LATERAL,
            "SEITLICH",
        ),
        ({"ViewPosition": None, "PatientOrientation": ["A", "F"]}, RouteReason.LATERAL, "A\\F"),
        ({"ViewPosition": None}, RouteReason.VIEW_UNKNOWN, "view"),
        ({"ViewPosition": None, "StudyDescription": "Chest PA and lateral"}, RouteReason.VIEW_UNKNOWN, "view"),
        ({"Rows": 200}, RouteReason.TOO_SMALL, "200 x 2048"),
        ({"Rows": None}, RouteReason.TOO_SMALL, "0 x 2048"),
        ({"PatientAge": "017Y"}, RouteReason.OUTSIDE_POPULATION, "17 years old"),
        ({"PatientAge": "003D"}, RouteReason.OUTSIDE_POPULATION, "0 years old"),
        ({"PatientAge": "200M"}, RouteReason.OUTSIDE_POPULATION, "18 years"),
        (
            {"PatientAge": None, "PatientBirthDate": "20000102", "StudyDate": "20180101"},
            RouteReason.OUTSIDE_POPULATION,
            "17 years old",
        ),
        ({"PatientSpeciesDescription": "Canine"}, RouteReason.NON_HUMAN, "CANINE"),
        (
            {"PatientSpeciesCodeSequence": [_item(CodeValue="448169003", CodeMeaning="Felis catus")]},
            RouteReason.NON_HUMAN,
            "FELIS CATUS",
        ),
        ({"AcquisitionDeviceProcessingDescription": "CANINE LATERAL THORAX"}, RouteReason.NON_HUMAN, "CANINE"),
    ],
)
def test_everything_else_is_set_aside_with_its_reason(
    changes: dict[str, Any], reason: RouteReason, explanation: str
) -> None:
    found = _routed(**changes)
    assert (found.selected, found.reason) == (False, reason), found.explanation
    assert explanation in found.explanation
    assert found.explanation.endswith(".")


def test_an_object_without_pixels_is_set_aside() -> None:
    assert _routed(has_pixel_data=False).reason is RouteReason.NO_PIXEL_DATA


def test_the_bundles_population_decides_on_view_and_age() -> None:
    only_pa = Population(view_positions=["PA"])
    assert _routed(only_pa, PatientAge="001Y").selected
    assert _routed(only_pa, ViewPosition="AP").reason is RouteReason.OUTSIDE_POPULATION
    frontal = _routed(only_pa, ViewPosition=None, PatientOrientation=["L", "F"])
    assert frontal.reason is RouteReason.OUTSIDE_POPULATION


def test_a_name_that_was_typed_into_another_field_is_withheld() -> None:
    found = _routed(BodyPartExamined="MUSTERMANN HAND")
    assert found.reason is RouteReason.OTHER_BODY_PART
    assert "MUSTERMANN" not in found.explanation.upper()


_READ = [
    *("SOPClassUID", "Manufacturer", "PresentationIntentType", "Modality", "Rows", "Columns", "SamplesPerPixel"),
    *("PhotometricInterpretation", "NumberOfFrames", "BodyPartExamined", "AnatomicRegionSequence", "ViewPosition"),
    *("ViewCodeSequence", "PatientOrientation", "SeriesDescription", "StudyDescription", "ProtocolName", "PatientAge"),
    *("PatientBirthDate", "StudyDate", "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientName"),
    *("SpecificCharacterSet", "AcquisitionDeviceProcessingDescription"),
]
_VRS = ["CS", "LO", "SH", "UI", "US", "SS", "IS", "DS", "DA", "AS", "SQ", "PN", "UN", "OB", "FD", "AT", "ZZ"]


@st.composite
def _headers(draw: st.DrawFn) -> Dataset:
    """A chest radiograph of which any attributes are missing, or hold any bytes under any VR, or any Python value."""
    header = _chest()
    for keyword in draw(st.lists(st.sampled_from(_READ), unique=True)):
        tag = tag_for_keyword(keyword)
        assert tag is not None
        kind = draw(st.integers(0, 3))
        if kind == 0:
            header.pop(tag, None)
        elif kind == 1:
            value = draw(st.binary(max_size=20))
            vr = draw(st.sampled_from(_VRS))
            header[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, draw(st.booleans()), True, True)
        elif kind == 2:
            header[tag] = DataElement(tag, "SQ", Sequence([_chest(), Dataset()]))
        else:
            text = draw(st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=3))
            header[tag] = DataElement(tag, "LO", text, validation_mode=0)
    return header


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400, deadline=None)
@given(_headers(), st.booleans(), st.integers(0, 99) | st.none())
def test_every_header_has_an_answer(header: Dataset, has_pixel_data: bool, minimum_age: int | None) -> None:
    bundle = RoutedBundle("d", "model", Population(minimum_age_years=minimum_age))
    found = route(header, [bundle], has_pixel_data=has_pixel_data)
    assert found.selected == (found.reason is RouteReason.SELECTED)
    assert found.explanation
    assert len(found.explanation) < 400
    assert "Mustermann" not in found.explanation
    assert "MUSTERMANN" not in found.explanation


def test_the_attributes_of_the_property_test_exist() -> None:
    assert set(_READ) <= set(keyword_dict)
