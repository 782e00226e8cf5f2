"""The report says what the result says, in the form that viewers and readers of TID 1500 rely on."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from schemas.codes import NOT_FOR_CLINICAL_USE, DistanceBasis, Finding, TubePosition
from schemas.result import FailedImage, Point, TipToCarina, TubeResult, Urgency
from schemas.settings import SegmentationGeometry
from tests.results.sources import (
    ABSENT_TUBE,
    BUNDLE,
    CONTENT_TIME,
    FINDINGS,
    STUDY_UID,
    dx_header,
    finding,
    forty,
    image_result,
    lines,
    received,
    refused_result,
    report_identity,
    request_attributes,
    source,
    study,
    tube,
)
from tests.support.dicom_tools import dciodvfy_errors
from workers.results.equipment import part10_bytes
from workers.results.regions import line
from workers.results.report import build_report
from workers.results.segmentation import build_segmentation
from workers.results.source import SourceImage, tracking_keys
from workers.results.warm import warm_up

TRACKING_UID, TRACKING_IDENTIFIER, IMAGE_LIBRARY, MEASUREMENTS = "112040", "112039", "111028", "126010"
EVALUATIONS = "C0034375"


def report_of(*sources: SourceImage, version: int = 1, urgency: Urgency = Urgency.IMMEDIATE) -> Dataset:
    """The report of `sources`, as a peer reads it."""
    report = build_report(study(sources, urgency, version), sources, [], report_identity(version), CONTENT_TIME)
    return dcmread(io.BytesIO(part10_bytes(report)))


def value_of(sequence: Sequence[Dataset]) -> str:
    """Code Value, or Long Code Value where it has more than 16 characters (PS3.3 section 8.1)."""
    return str(sequence[0].get("CodeValue") or sequence[0].LongCodeValue)


def child(item: Dataset, code: str) -> Dataset:
    found: Dataset = next(each for each in item.ContentSequence if value_of(each.ConceptNameCodeSequence) == code)
    return found


def groups(report: Dataset) -> list[Dataset]:
    return list(child(report, MEASUREMENTS).ContentSequence)


def group(report: Dataset, identifier: str) -> Dataset:
    return next(each for each in groups(report) if each.ContentSequence[0].TextValue == identifier)


def numbers(item: Dataset) -> dict[str, tuple[float, str]]:
    """Value and unit by the code of the measurement's name."""
    return {
        value_of(each.ConceptNameCodeSequence): (
            float(each.MeasuredValueSequence[0].NumericValue),
            value_of(each.MeasuredValueSequence[0].MeasurementUnitsCodeSequence),
        )
        for each in item.ContentSequence
        if each.ValueType == "NUM"
    }


def evaluations(item: Dataset) -> dict[str, str]:
    """Code value by the code of the evaluation's name."""
    return {
        value_of(each.ConceptNameCodeSequence): value_of(each.ConceptCodeSequence)
        for each in item.ContentSequence
        if each.ValueType == "CODE"
    }


def normal() -> SourceImage:
    header = dx_header()
    return source(header, image_result(header, present=(), tubes=[ABSENT_TUBE]))


def test_ohif_finds_what_it_dereferences() -> None:
    """facts/field.md 2.6: the checklist read from OHIF's SR handler, for a positive and for a normal study."""
    for image in (source(dx_header()), normal()):
        report = report_of(image)
        assert value_of(report.ConceptNameCodeSequence) == "126000"
        assert len(child(report, IMAGE_LIBRARY).ContentSequence) > 0
        referenced = {
            each.ReferencedSOPInstanceUID
            for one_study in report.CurrentRequestedProcedureEvidenceSequence
            for series in one_study.ReferencedSeriesSequence
            for each in series.ReferencedSOPSequence
        }
        assert groups(report)
        for item in groups(report):
            assert value_of(item.ConceptNameCodeSequence) == "125007"
            codes = [value_of(each.ConceptNameCodeSequence) for each in item.ContentSequence]
            assert codes.count(TRACKING_IDENTIFIER) == codes.count(TRACKING_UID) == 1
            first_uid = next(each for each in item.ContentSequence if each.ValueType == "UIDREF")
            assert value_of(first_uid.ConceptNameCodeSequence) == TRACKING_UID
            assert not any(each.ValueType == "IMAGE" for each in item.ContentSequence)
            regions = [each for each in item.ContentSequence if each.ValueType == "SCOORD"]
            assert len(regions) == 1
            assert regions[0].GraphicType in {"POINT", "POLYLINE"}
            source_image = regions[0].ContentSequence[0].ReferencedSOPSequence[0]
            assert source_image.ReferencedSOPInstanceUID in referenced
            assert child(item, "363698007").ConceptCodeSequence[0].CodingSchemeDesignator == "SCT"


def test_findings_carry_presence_score_and_category() -> None:
    report = report_of(source(dx_header()))
    present = group(report, "Pneumothorax (evaluated region)")
    assert evaluations(present)["121071"] == "36118008"
    assert evaluations(present)["PRESENCE"] == "52101004"
    assert evaluations(present)["ACTIONABLE"] == "RID49481"
    assert numbers(present) == {"MODEL_SCORE": (0.8725, "1"), "OPERATING_POINT": (0.5, "1")}
    absent = group(report, "Nodule (evaluated region)")
    assert evaluations(absent)["PRESENCE"] == "272519000"
    assert "ACTIONABLE" not in evaluations(absent)


def test_what_no_operating_point_decides_is_undetermined() -> None:
    header = dx_header()
    undecided = finding(Finding.PNEUMOTHORAX, present=False).model_copy(
        update={"present": None, "operating_point": None}
    )
    result = image_result(header).model_copy(update={"findings": [undecided]})
    item = group(report_of(source(header, result)), "Pneumothorax (evaluated region)")
    assert evaluations(item)["PRESENCE"] == "373068000"
    assert set(numbers(item)) == {"MODEL_SCORE"}


def test_all_forty_findings_are_in_the_report_each_with_a_region_the_pressing_ones_first() -> None:
    header = dx_header()
    present = [Finding.NORMAL, Finding.KYPHOSIS, Finding.CARDIOMEGALY, Finding.PNEUMOTHORAX, Finding.SUPPORT_DEVICES]
    result = image_result(header, tubes=[]).model_copy(update={"findings": forty(present)})
    report = report_of(source(header, result))
    items = groups(report)
    # OHIF's viewport stays black for a report with a group that has no region.
    assert all(any(each.ValueType == "SCOORD" for each in item.ContentSequence) for item in items)
    assert [item.ContentSequence[0].TextValue.removesuffix(" (evaluated region)") for item in items][:6] == [
        "Pneumothorax",
        "Cardiomegaly",
        "Kyphosis",
        "Normal",
        "Support devices",
        "Hydropneumothorax",
    ]
    assert len(items) == 40
    categories = [evaluations(item).get("ACTIONABLE") for item in items]
    assert categories == ["RID49481", "RID49482", *[None] * 38]
    said = [each.TextValue for each in child(report, EVALUATIONS).ContentSequence if each.ValueType == "TEXT"]
    assert said[1:] == [
        "Not assessed, for want of an operating point: "
        "hydropneumothorax, pneumomediastinum, pneumoperitoneum, pulmonary embolism and 31 more."
    ]


def test_a_normal_chest_and_devices_are_no_findings_of_the_study() -> None:
    header = dx_header()

    def summary(present: list[Finding]) -> str:
        result = image_result(header, tubes=[]).model_copy(update={"findings": forty(present, 0.5)})
        return evaluations(child(report_of(source(header, result)), EVALUATIONS))["111017"]

    assert summary([Finding.NORMAL, Finding.SUPPORT_DEVICES]) == summary([])
    assert summary([Finding.NORMAL]) != summary([Finding.FISSURE])


@pytest.mark.parametrize(
    ("decided", "tubes", "code"),
    [
        ({}, [], "111245"),
        ({}, [ABSENT_TUBE], "111243"),
        ({Finding.MASS: False}, [], "111243"),
        ({Finding.MASS: True}, [], "111244"),
        ({}, [tube()], "111244"),
        (dict.fromkeys(Finding, False), [], "111241"),
        (dict.fromkeys(Finding, True), [ABSENT_TUBE], "111242"),
    ],
)
def test_the_summary_counts_as_succeeded_only_what_came_to_a_decision(
    decided: dict[Finding, bool], tubes: list[TubeResult], code: str
) -> None:
    header = dx_header()
    findings = [
        each.model_copy(update={"present": decided.get(each.finding), "operating_point": None}) for each in forty()
    ]
    result = image_result(header, tubes=tubes).model_copy(update={"findings": findings})
    assert evaluations(child(report_of(source(header, result)), EVALUATIONS))["111017"] == code


def test_only_a_calibrated_score_is_called_a_probability() -> None:
    report = report_of(source(dx_header()))
    for each in FINDINGS:
        names = set(numbers(group(report, f"{each.code.meaning} (evaluated region)")))
        assert ("122157" in names) is (each is Finding.NODULE)
        assert ("MODEL_SCORE" in names) is (each is not Finding.NODULE)


def test_a_region_that_was_only_evaluated_says_so() -> None:
    report = report_of(normal())
    for item in groups(report):
        assert item.ContentSequence[0].TextValue.endswith("(evaluated region)")
        assert "EVALUATED_REGION" in evaluations(item)
    lungs = next(e for e in group(report, "Pneumothorax (evaluated region)").ContentSequence if e.ValueType == "SCOORD")
    heart = next(e for e in group(report, "Cardiomegaly (evaluated region)").ContentSequence if e.ValueType == "SCOORD")
    whole = next(
        e for e in group(report, "Endotracheal tube (evaluated region)").ContentSequence if e.ValueType == "SCOORD"
    )
    assert max(lungs.GraphicData) <= 250
    assert heart.GraphicData != lungs.GraphicData
    corners = np.array(whole.GraphicData).reshape(-1, 2)[::2]
    assert corners.tolist() == [[0, 0], [205, 0], [205, 250], [0, 250], [0, 0]]


def test_of_a_cropped_image_only_what_the_model_saw_counts_as_evaluated() -> None:
    header = dx_header()
    seen = np.array([[0.0, 20.5], [205.0, 230.0]])
    cropped = replace(source(header, image_result(header, present=(), tubes=[ABSENT_TUBE]), {}), seen=seen)
    for item in groups(report_of(cropped)):
        region = next(each for each in item.ContentSequence if each.ValueType == "SCOORD")
        corners = np.array(region.GraphicData).reshape(-1, 2)
        assert [corners.min(axis=0).tolist(), corners.max(axis=0).tolist()] == seen.tolist()


@pytest.mark.parametrize("points", [2, 3, 4, 5, 6])
def test_no_line_looks_like_a_rectangle_tool_to_ohif(points: int) -> None:
    course = [Point(x=10.0 * number, y=20.0 * number) for number in range(points)]
    drawn = line(image_result(dx_header()), course)
    assert len(drawn) not in (4, 5)
    assert drawn[0].tolist() == [0, 0] and drawn[-1].tolist() == [course[-1].x, course[-1].y]
    assert all(any(np.allclose(each, [point.x, point.y]) for each in drawn) for point in course)


def test_a_tube_carries_course_points_position_and_distance() -> None:
    report = report_of(source(dx_header()))
    item = group(report, "Endotracheal tube")
    found = evaluations(item)
    assert found["121071"] == "26412008"
    assert found["PRESENCE"] == "52101004"
    assert found["DEVICE_POSITION"] == "POS_ABNORMAL"
    assert found["DISTANCE_BASIS"] == "BASIS_DETECTOR"
    assert found["ACTIONABLE"] == "RID49480"
    assert numbers(item)["TIP_TO_CARINA"] == (12.3, "mm")
    assert numbers(item)["MALPOSITION"] == (0.81, "1")
    course = next(each for each in item.ContentSequence if each.ValueType == "SCOORD")
    assert (course.GraphicType, len(course.GraphicData)) == ("POLYLINE", 6)
    tip = next(e for e in group(report, "Endotracheal tube tip").ContentSequence if e.ValueType == "SCOORD")
    assert (tip.GraphicType, list(tip.GraphicData)) == ("POINT", [102.5, 90.0])
    carina = next(e for e in group(report, "Carina").ContentSequence if e.ValueType == "SCOORD")
    assert carina.GraphicData[1] == 105


def test_each_device_has_its_own_code_course_and_tip() -> None:
    header = dx_header()
    report = report_of(source(header, image_result(header, tubes=lines())))
    catheter, feeding = group(report, "Central venous catheter"), group(report, "Nasogastric tube")
    assert [evaluations(each)["121071"] for each in (catheter, feeding)] == ["52124006", "17102003"]
    assert evaluations(catheter)["DEVICE_POSITION"] == "POS_ABNORMAL"
    assert evaluations(catheter)["ACTIONABLE"] == "RID49480"
    assert "ACTIONABLE" not in evaluations(feeding)
    assert numbers(catheter)["COURSE_SCORE"] == (0.8, "1")
    assert "TIP_TO_CARINA" not in numbers(catheter)
    tip = next(e for e in group(report, "Nasogastric tube tip").ContentSequence if e.ValueType == "SCOORD")
    assert tip.GraphicData[1] == pytest.approx(0.95 * header.Rows)


def test_tubes_come_before_findings_and_the_malpositioned_one_first() -> None:
    header = dx_header()
    result = image_result(header, tubes=[*lines(), ABSENT_TUBE]).model_copy(update={"findings": forty()})
    labels = [item.ContentSequence[0].TextValue for item in groups(report_of(source(header, result)))]
    assert labels[:5] == [
        "Central venous catheter",
        "Central venous catheter tip",
        "Nasogastric tube",
        "Nasogastric tube tip",
        "Endotracheal tube (evaluated region)",
    ]
    assert len(labels) == 45


def test_a_distance_of_unknown_magnification_carries_its_range() -> None:
    header = dx_header()
    distance = TipToCarina(
        pixels=80.0,
        millimetres=12.0,
        basis=DistanceBasis.DETECTOR_PLANE,
        lowest_millimetres=10.0,
        highest_millimetres=12.0,
    )
    result = image_result(header, tubes=[tube().model_copy(update={"tip_to_carina": distance})])
    found = numbers(group(report_of(source(header, result)), "Endotracheal tube"))
    assert found["TIP_TO_CARINA"] == (12.0, "mm")
    assert (found["TIP_CARINA_LEAST"], found["TIP_CARINA_MOST"]) == ((10.0, "mm"), (12.0, "mm"))
    assert "TIP_CARINA_LEAST" not in numbers(group(report_of(source(dx_header())), "Endotracheal tube"))


def test_a_refused_image_is_reported_as_not_analysed_and_never_as_without_findings() -> None:
    header = dx_header()
    refused = source(header, refused_result(header), {})
    report = report_of(refused, urgency=Urgency.ROUTINE)
    evaluated = child(report, EVALUATIONS)
    # No algorithms succeeded.
    assert evaluations(evaluated) == {"111017": "111245"}
    said = [each.TextValue for each in evaluated.ContentSequence if each.ValueType == "TEXT"]
    assert f"Image {header.SOPInstanceUID} was not analysed: lateral view (the model's reading)." in said
    assert report.CompletionFlag == "PARTIAL"
    assert MEASUREMENTS not in [value_of(each.ConceptNameCodeSequence) for each in report.ContentSequence]
    assert build_segmentation(refused, BUNDLE, SegmentationGeometry.PLANES, CONTENT_TIME) is None

    clean = dx_header("b")
    result = image_result(clean, present=(), tubes=[ABSENT_TUBE])
    both = report_of(refused, source(clean, result), urgency=Urgency.ROUTINE)
    # Not all algorithms succeeded.
    assert evaluations(child(both, EVALUATIONS))["111017"] == "111243"


def test_without_a_spacing_there_are_no_millimetres() -> None:
    header = dx_header()
    report = report_of(source(header, image_result(header, tubes=[tube(DistanceBasis.NONE)])))
    item = group(report, "Endotracheal tube")
    assert "TIP_TO_CARINA" not in numbers(item)
    assert evaluations(item)["DISTANCE_BASIS"] == "BASIS_NONE"


def test_a_normal_position_has_no_category() -> None:
    header = dx_header()
    well = tube().model_copy(update={"position": TubePosition.NORMAL})
    item = group(report_of(source(header, image_result(header, tubes=[well]))), "Endotracheal tube")
    assert "ACTIONABLE" not in evaluations(item)


def test_the_whole_study_has_urgency_summary_and_notice() -> None:
    urgent = child(report_of(source(dx_header())), EVALUATIONS)
    assert evaluations(urgent) == {"111017": "111242", "ACTIONABLE": "RID49480"}
    routine = child(report_of(normal(), urgency=Urgency.ROUTINE), EVALUATIONS)
    assert evaluations(routine) == {"111017": "111241"}
    assert NOT_FOR_CLINICAL_USE in [each.TextValue for each in routine.ContentSequence if each.ValueType == "TEXT"]


def test_the_report_says_what_nobody_has_shown_of_an_unproven_bundle() -> None:
    image, words = source(dx_header()), "Nothing shows that these weights work."
    bundle = BUNDLE.model_copy(update={"unproven": words})
    said = study([image]).model_copy(update={"bundle": bundle})
    report = build_report(said, [image], [], report_identity(1), CONTENT_TIME)
    evaluated = child(report, EVALUATIONS).ContentSequence
    assert words in [each.TextValue for each in evaluated if each.ValueType == "TEXT"]


def test_the_report_is_preliminary_and_says_what_it_is_not_for() -> None:
    report = report_of(source(dx_header()))
    assert (report.PreliminaryFlag, report.VerificationFlag, report.CompletionFlag) == (
        "PRELIMINARY",
        "UNVERIFIED",
        "COMPLETE",
    )
    assert report.SeriesDescription.endswith("not for clinical use")
    assert report.SeriesDescription.isascii()
    assert len(report.SeriesDescription) <= 64
    assert (report.Manufacturer, report.ManufacturerModelName) == ("CheXNode", BUNDLE.name)
    assert "99CHEXNODE" in [each.CodingSchemeDesignator for each in report.CodingSchemeIdentificationSequence]


def test_a_bundle_that_outlines_regions_only_has_a_report_without_groups(tmp_path: Path) -> None:
    header = dx_header()
    image = source(header, image_result(header, tubes=[]).model_copy(update={"findings": []}))
    report = report_of(image, urgency=Urgency.ROUTINE)
    names = [value_of(each.ConceptNameCodeSequence) for each in report.ContentSequence]
    assert MEASUREMENTS not in names and names[-2:] == [IMAGE_LIBRARY, EVALUATIONS]
    path = tmp_path / "report.dcm"
    report.save_as(path)
    assert dciodvfy_errors(path) == []


def test_a_failed_image_makes_the_report_partial_with_its_reason() -> None:
    image = normal()
    failed = FailedImage(sop_instance_uid="1.2.3", reason="Broken codestream, 3 ≥ 2.")
    report = build_report(study([image], failed=[failed]), [image], [], report_identity(), CONTENT_TIME)
    read = dcmread(io.BytesIO(part10_bytes(report)))
    assert read.CompletionFlag == "PARTIAL"
    assert read.SpecificCharacterSet == "ISO_IR 192"
    texts = [each.TextValue for each in child(read, EVALUATIONS).ContentSequence if each.ValueType == "TEXT"]
    assert "Image 1.2.3 was not analysed: Broken codestream, 3 ≥ 2." in texts
    with pytest.raises(ValueError, match="at least one analysed image"):
        build_report(study([]), [], [], report_identity(), CONTENT_TIME)


def test_images_and_segmentations_are_evidence() -> None:
    images = [source(dx_header("a")), source(dx_header("b"))]
    segmentations = [
        each
        for each in (build_segmentation(i, BUNDLE, SegmentationGeometry.PLANES, CONTENT_TIME) for i in images)
        if each is not None
    ]
    report = build_report(study(images), images, segmentations, report_identity(), CONTENT_TIME)
    read = highdicom.sr.srread(io.BytesIO(part10_bytes(report)))
    evidence = {str(sop_instance_uid) for _, _, sop_instance_uid, _ in read.get_evidence(current_procedure_only=True)}
    assert evidence == {str(i.header.SOPInstanceUID) for i in images} | {str(s.SOPInstanceUID) for s in segmentations}


def test_a_new_version_names_its_predecessor_and_keeps_tracking_uids() -> None:
    first, second = report_of(normal()), report_of(normal(), version=2)
    assert "PredecessorDocumentsSequence" not in first
    predecessor = second.PredecessorDocumentsSequence[0]
    assert predecessor.StudyInstanceUID == STUDY_UID
    reference = predecessor.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID

    def tracking(report: Dataset) -> list[str]:
        return [child(item, TRACKING_UID).UID for item in groups(report)]

    assert tracking(first) == tracking(second)
    assert len(set(tracking(first))) == len(tracking(first))


def test_tracking_keys_cover_all_that_is_used() -> None:
    keys = tracking_keys([Finding.PNEUMOTHORAX])
    assert len(set(keys)) == len(keys)
    assert {"pneumothorax", "endotracheal_tube", "endotracheal_tube.tip", "segment.right_lung"} <= set(keys)
    # The ledger keeps a row for each: none for what the bundle does not score.
    assert "nodule" not in keys


def test_the_order_is_referenced() -> None:
    image = source(received(dx_header(AccessionNumber="A 1", RequestAttributesSequence=[request_attributes("A 1")])))
    other = source(received(dx_header("b", AccessionNumber="A 2")))
    report = report_of(image, other)
    assert report.AccessionNumber == "A 1"
    first, second = report.ReferencedRequestSequence
    assert (first.AccessionNumber, first.RequestedProcedureID) == ("A 1", "RP 7")
    assert first.PlacerOrderNumberImagingServiceRequest == "ORD 7"
    assert second.AccessionNumber == "A 2"
    assert first.StudyInstanceUID == STUDY_UID
    assert "ReferencedRequestSequence" not in report_of(normal())


def test_highdicom_reads_the_report_back() -> None:
    report = build_report(study([source(dx_header())]), [source(dx_header())], [], report_identity(), CONTENT_TIME)
    read = highdicom.sr.srread(io.BytesIO(part10_bytes(report)))
    assert isinstance(read.content, highdicom.sr.MeasurementReport)
    found = read.content.get_planar_roi_measurement_groups()
    assert len(found) == len(FINDINGS) + 3
    tip = next(each for each in found if each.tracking_identifier == "Endotracheal tube tip")
    assert tip.roi is not None
    assert tip.roi.value.tolist() == [[102.5, 90.0]]
    pneumothorax = next(each for each in found if each.tracking_identifier == "Pneumothorax (evaluated region)")
    assert [each.value for each in pneumothorax.get_measurements()] == [0.8725, 0.5]
    assert pneumothorax.finding_sites[0].value.meaning == "Lung"


def test_the_same_arguments_give_the_same_bytes() -> None:
    def build() -> bytes:
        image = source(received(dx_header(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Eva")))
        return part10_bytes(build_report(study([image]), [image], [], report_identity(2), CONTENT_TIME))

    assert build() == build()


def test_building_warns_of_nothing_and_names_no_patient(caplog: pytest.LogCaptureFixture) -> None:
    image = source(received(dx_header(PatientName="Anonymized", PatientID="X" * 70)))
    with warnings.catch_warnings(), caplog.at_level("INFO"):
        warnings.simplefilter("error")
        build_report(study([image]), [image], [], report_identity(), CONTENT_TIME)
    assert "Anonymized" not in caplog.text


def test_a_process_can_be_warmed_up() -> None:
    warm_up()
