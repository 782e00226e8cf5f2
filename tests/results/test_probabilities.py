"""A number is called a probability only where it was calibrated on real data, and then with what it was made on."""

from pathlib import Path

from schemas.codes import Finding
from schemas.result import CalibrationReference, FindingResult
from tests.results.sources import dx_header, finding, image_result, source, tube
from tests.results.test_report import EVALUATIONS, child, group, numbers, report_of
from tests.support.dicom_tools import dciodvfy_errors
from workers.results.equipment import part10_bytes
from workers.results.legend import finding_lines

REAL = CalibrationReference(data="films of ward 7", n=812, prevalence=0.125, real=True)
DRAWN = REAL.model_copy(update={"data": "phantoms", "real": False})


def calibrated(of: Finding, reference: CalibrationReference) -> FindingResult:
    return finding(of, True).model_copy(update={"calibrated": reference.real, "calibration": reference})


def test_the_report_gives_a_probability_with_its_prevalence_and_its_data_and_a_score_with_neither(
    tmp_path: Path,
) -> None:
    header = dx_header()
    lying = tube().model_copy(update={"malposition_calibration": REAL})
    findings = [calibrated(Finding.NODULE, REAL), calibrated(Finding.PNEUMOTHORAX, DRAWN)]
    result = image_result(header, tubes=[lying]).model_copy(update={"findings": findings})
    report = report_of(source(header, result))

    nodule = numbers(group(report, f"{Finding.NODULE.code.meaning} (evaluated region)"))
    assert nodule == {"122157": (0.8725, "1"), "PREVALENCE": (0.125, "1"), "OPERATING_POINT": (0.5, "1")}
    other = numbers(group(report, "Pneumothorax (evaluated region)"))
    assert other == {"MODEL_SCORE": (0.8725, "1"), "OPERATING_POINT": (0.5, "1")}
    lies = numbers(group(report, "Endotracheal tube"))
    assert lies["MALPOSITION_PROB"] == (0.81, "1") and lies["MALPOSITION_PREV"] == (0.125, "1")
    assert "MALPOSITION" not in lies and "MODEL_SCORE" in lies
    comments = [each.TextValue for each in child(report, EVALUATIONS).ContentSequence if each.ValueType == "TEXT"]
    said = [each for each in comments if each.startswith("Probabilities")]
    assert said == ["Probabilities were made on films of ward 7 (n = 812); each holds at the prevalence beside it."]

    path = tmp_path / "report.dcm"
    path.write_bytes(part10_bytes(report))
    assert dciodvfy_errors(path) == []


def test_where_only_malposition_was_calibrated_the_report_names_its_data() -> None:
    header = dx_header()
    lying = tube().model_copy(update={"malposition_calibration": REAL})
    for present in (True, False):
        result = image_result(header, tubes=[lying.model_copy(update={"present": present})])
        comments = child(report_of(source(header, result)), EVALUATIONS).ContentSequence
        said = [each.TextValue for each in comments if each.ValueType == "TEXT" and "Probabilities" in each.TextValue]
        # Of an absent tube no position is given.
        assert len(said) == present
        assert all("films of ward 7 (n = 812)" in each for each in said)


def test_a_report_of_scores_names_no_data() -> None:
    comments = child(report_of(source(dx_header())), EVALUATIONS).ContentSequence
    assert not [each for each in comments if each.ValueType == "TEXT" and "Probabilities" in each.TextValue]


def test_on_an_overlay_only_a_probability_is_in_per_cent() -> None:
    drawn = finding_lines([calibrated(Finding.NODULE, REAL), calibrated(Finding.PNEUMOTHORAX, DRAWN)], 10)
    assert {line.text: line.value for line in drawn} == {
        Finding.NODULE.code.meaning: "87 %",
        "Pneumothorax": "0.87",
    }
