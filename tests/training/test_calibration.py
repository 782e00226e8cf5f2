"""Calibration and operating points on drawn logits, of which the truth is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from schemas.bundle import Calibration, ScoredClass, bundle_folder, read_manifest
from training.calibration.error import bins_of, calibration_error_metric, expected_calibration_error
from training.calibration.fitting import (
    LEAST_CASES,
    CalibratedClass,
    CalibrationPlan,
    LabelledLogits,
    calibrated_classes,
    with_classes,
)
from training.calibration.operating_points import point_of_sensitivity
from training.calibration.reliability import save_reliability
from workers.calibration import class_scores
from workers.tubes import presence_score

MANIFEST = read_manifest(bundle_folder(None))
COUNT = len(MANIFEST.classes)
#: Drawn numbers have an operating point whatever it costs.
PLAN = CalibrationPlan(data="drawn numbers", real=False, sensitivity=0.9, least_specificity=0.0)


Values = NDArray[np.floating]


def _drawn(seed: int, n: int, slope: float = 0.5, intercept: float = -1.0) -> tuple[Values, Values]:
    """Logits and the truth of cases of which sigmoid(slope * logit + intercept) is the probability."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, n)
    return logits, (rng.random(n) < expit(slope * logits + intercept)).astype(float)


def _first_class(
    logits: Values, truth: Values, patients: NDArray[np.integer] | None = None, plan: CalibrationPlan = PLAN
) -> CalibratedClass:
    """The first class calibrated on these cases, of which the other classes' truth is unknown."""
    n = len(truth)
    every, known = np.zeros((n, COUNT)), np.full((n, COUNT), np.nan)
    every[:, 0], known[:, 0] = logits, truth
    patients = np.arange(n) if patients is None else patients
    return next(calibrated_classes(MANIFEST, LabelledLogits(every, known, patients), plan))


def test_slope_and_intercept_of_the_cases_are_found() -> None:
    found = _first_class(*_drawn(0, 5000)).after.calibration
    assert found is not None
    # Their standard errors are 0.014 and 0.04.
    assert found.slope == pytest.approx(0.5, abs=0.05)
    assert found.intercept == pytest.approx(-1.0, abs=0.12)
    assert (found.n, found.data, found.real) == (5000, "drawn numbers", False)


def test_the_logits_of_a_class_are_scored_by_its_calibration_and_the_others_by_the_sigmoid() -> None:
    calibration = Calibration(slope=2.0, intercept=-1.0, prevalence=0.5, n=10, data="x", real=False)
    classes = [
        ScoredClass(target="nodule", operating_point=None, calibration=calibration),
        ScoredClass(target="mass", operating_point=None),
    ]
    logits = np.array([[0.5, 0.5], [-700.0, 800.0]], np.float32)
    expected = [[0.5, expit(0.5)], [0.0, 1.0]]
    assert class_scores(logits, classes) == pytest.approx(np.array(expected))
    with pytest.raises(ValueError, match="3 logits for 2 classes"):
        class_scores(np.zeros(3), classes)


def test_the_error_of_perfect_scores_is_near_0_and_that_of_wrong_ones_is_found() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(4000)
    truth = (rng.random(4000) < scores).astype(float)
    assert expected_calibration_error(scores, truth) < 0.02
    figure = calibration_error_metric("perfect", scores, truth, np.arange(4000))
    assert figure.low == 0
    wrong = scores * 0.5
    assert expected_calibration_error(wrong, truth) == pytest.approx(0.25, abs=0.02)
    figure = calibration_error_metric("wrong", wrong, truth, np.arange(4000))
    assert 0.2 < figure.low < 0.25 < figure.high < 0.3


def test_bins_are_of_equal_size_and_hold_every_case() -> None:
    scores = np.random.default_rng(2).random(3001) ** 3
    bins = bins_of(scores, np.ones(3001))
    assert len(bins.counts) == 15
    assert bins.counts.sum() == 3001
    assert bins.counts.max() - bins.counts.min() <= 1
    assert (np.diff(bins.scores) > 0).all()


def test_calibration_mends_what_a_shift_of_the_logits_did_and_is_measured_on_cases_it_was_not_fitted_on() -> None:
    found = _first_class(*_drawn(3, 1500))
    assert found.error_before is not None and found.error is not None
    assert found.error_before.low > 0.1
    assert found.error.value < 0.05
    assert found.error.low == 0
    calibration = found.after.calibration
    assert calibration is not None
    assert calibration.expected_calibration_error == found.error.value
    # Cross-fitted: not the scores that the calibration itself gives these cases.
    own = class_scores(_drawn(3, 1500)[0][:, None], [found.after])[:, 0]
    assert 0 < np.abs(own - found.scores).max() < 0.1


def test_a_stated_sensitivity_holds_on_cases_to_come() -> None:
    found = _first_class(*_drawn(4, 1500))
    assert found.sensitivity is not None and found.specificity is not None
    logits, truth = _drawn(5, 50_000)
    called = class_scores(logits[:, None], [found.after])[:, 0] >= (found.after.operating_point or 0)
    assert found.sensitivity.low <= called[truth > 0.5].mean() <= found.sensitivity.high
    assert called[truth > 0.5].mean() == pytest.approx(0.9, abs=0.03)
    assert found.specificity.low <= (~called)[truth <= 0.5].mean() <= found.specificity.high


@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.8, 0.9, 1.0]))
@settings(max_examples=50)
def test_no_other_point_of_a_sensitivity_is_more_specific(seed: int, wanted: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 40).astype(float)
    truth[:2] = 0, 1
    # With ties.
    scores = np.round(np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0.01, 0.99), 1)
    point = point_of_sensitivity(scores, truth, wanted)
    assert point is not None

    def rates(threshold: float) -> tuple[float, float]:
        called = scores >= threshold
        return called[truth > 0.5].mean(), (~called)[truth <= 0.5].mean()

    sensitivity, specificity = rates(point)
    assert sensitivity >= wanted - 1e-9
    good = [rates(each) for each in np.unique(scores) if rates(each)[0] >= wanted - 1e-9]
    assert specificity == max(each for _, each in good)
    assert sensitivity == max(each for each, other in good if other == specificity)


def test_another_prevalence_moves_the_scores_to_it_and_leaves_the_decisions() -> None:
    plan = replace(PLAN, prevalences={MANIFEST.classes[0].target: 0.02})
    logits, truth = _drawn(6, 2000)
    as_is, rare = _first_class(logits, truth), _first_class(logits, truth, plan=plan)
    assert rare.after.calibration is not None and rare.error is not None
    assert rare.after.calibration.prevalence == 0.02
    scores = class_scores(logits[:, None], [rare.after])[:, 0]
    assert np.average(scores, weights=rare.weights) == pytest.approx(0.02, abs=0.002)
    assert rare.error.value < 0.015
    before = class_scores(logits[:, None], [as_is.after])[:, 0] >= (as_is.after.operating_point or 0)
    assert np.array_equal(before, scores >= (rare.after.operating_point or 0))


def test_images_of_one_patient_are_never_split() -> None:
    """Every patient has one logit, and a label of their own: only who has seen the patient could know it."""
    rng = np.random.default_rng(7)
    patients = np.repeat(np.arange(60), 10)
    logits, truth = np.repeat(rng.normal(0, 1, 60), 10), np.repeat(rng.integers(0, 2, 60), 10).astype(float)
    found = _first_class(logits, truth, patients)
    assert found.auroc is not None and found.patients == 60
    # 600 images that were all alike independent would have an interval of less than half this width.
    assert found.auroc.high - found.auroc.low > 0.2
    for patient in range(60):
        assert len(np.unique(found.scores[patients == patient])) == 1


def test_a_class_without_enough_cases_stays_as_it_is_and_says_why() -> None:
    truth = np.zeros(500)
    truth[: LEAST_CASES - 1] = 1
    logits = np.random.default_rng(8).normal(0, 1, 500) + 3 * truth
    found = _first_class(logits, truth)
    assert found.after == MANIFEST.classes[0] and not found.is_fitted
    assert found.reason == "19 cases with it, at least 20 are needed"
    truth[:40] = 1
    of_few = np.arange(500)
    of_few[:40] = 3
    assert "are of 1 patients, at least 10 are needed" in _first_class(logits, truth, of_few).reason


def test_a_class_no_better_than_chance_is_undetermined_and_one_that_falls_has_no_calibration() -> None:
    rng = np.random.default_rng(9)
    truth = (rng.random(400) < 0.4).astype(float)
    by_chance = _first_class(rng.normal(0, 1, 400), truth)
    assert by_chance.after.operating_point is None
    assert "chance" in by_chance.reason or "does not rise" in by_chance.reason
    falling = _first_class(rng.normal(0, 1, 400) - 3 * truth, truth)
    assert falling.after.calibration is None and falling.after.operating_point is None
    assert falling.reason == "its score does not rise with the finding"


def test_a_class_that_would_call_most_who_do_not_have_it_is_undetermined_unless_somebody_wants_that() -> None:
    rng = np.random.default_rng(12)
    truth = (rng.random(1500) < 0.4).astype(float)
    # An AUROC of 0.66: at a sensitivity of 0.9 seven of ten without it are called.
    logits = rng.normal(0, 1, 1500) + 0.6 * truth
    noisy = _first_class(logits, truth, plan=replace(PLAN, least_specificity=0.5))
    assert noisy.after.operating_point is None and noisy.after.calibration is not None
    assert noisy.specificity is not None and noisy.specificity.value < 0.5
    assert "at a sensitivity of 0.90 its specificity is 0." in noisy.reason
    target = str(MANIFEST.classes[0].target)
    wanted = _first_class(logits, truth, plan=replace(PLAN, least_specificity=0.5, sensitivities={target: 0.9}))
    assert wanted.after.operating_point is not None and not wanted.reason


def test_classes_that_a_threshold_separates_get_a_finite_slope() -> None:
    truth = np.repeat([0.0, 1.0], 30)
    found = _first_class(truth * 10 - 5 + np.linspace(-1, 1, 60), truth)
    assert found.after.calibration is not None and found.sensitivity is not None
    assert 0 < found.after.calibration.slope < 10
    # All were found: the interval says of how few.
    assert (found.sensitivity.value, found.sensitivity.high) == (1.0, 1.0)
    assert found.sensitivity.low == pytest.approx(0.884, abs=0.001)


def test_only_a_calibration_on_real_data_makes_probabilities() -> None:
    logits, truth = _drawn(10, 300)
    real = replace(PLAN, real=True)
    assert not _first_class(logits, truth).after.calibrated
    assert _first_class(logits, truth, plan=real).after.calibrated
    with pytest.raises(ValueError, match="calibrated is for a calibration on real data"):
        ScoredClass(target="nodule", operating_point=None, calibrated=True)


def test_a_calibration_that_gives_no_number_is_not_read() -> None:
    # Against no number every score is below its operating point: all images would be refused.
    for slope, intercept in (("1.0", "NaN"), ("Infinity", "0.0"), ("1.0", "-Infinity")):
        stored = (
            f'{{"slope": {slope}, "intercept": {intercept}, "prevalence": 0.1, "n": 9, "data": "x", "real": false}}'
        )
        with pytest.raises(ValueError, match="finite number"):
            Calibration.model_validate_json(stored)


def test_the_manifest_takes_the_classes_in_its_order() -> None:
    rng = np.random.default_rng(11)
    logits = rng.normal(0, 2, (400, COUNT))
    truth = (rng.random((400, COUNT)) < expit(logits)).astype(float)
    truth[:, 1] = np.nan
    classes = list(calibrated_classes(MANIFEST, LabelledLogits(logits, truth, np.arange(400)), PLAN))
    made = with_classes(MANIFEST, classes)
    assert [each.target for each in made.classes] == [each.target for each in MANIFEST.classes]
    assert made.classes[1] == MANIFEST.classes[1]
    assert all(each.calibration for index, each in enumerate(made.classes) if index != 1)
    assert made.channels == MANIFEST.channels


def test_reliability_diagrams_are_drawn_for_every_fitted_class(tmp_path: Path) -> None:
    fitted = [_first_class(*_drawn(seed, 200)) for seed in range(2)]
    unfitted = _first_class(*_drawn(12, 10))
    save_reliability([*fitted, unfitted], tmp_path / "two.png", "two")
    with Image.open(tmp_path / "two.png") as picture:
        width, height = picture.size
    assert (width, height) == (720, 510)


def test_the_sensitivity_of_a_device_holds_for_class_and_course_together_which_results_decide_by() -> None:
    """Courses that say another thing than the class: a threshold of the class's own scores would miss the aim."""
    rng = np.random.default_rng(8)
    n = 2000
    truth = (rng.random(n) < 0.4).astype(float)
    logits = 4 * (truth - 0.5) + rng.normal(0, 2, n)
    # Every line there is leaves something that looks like a tube.
    course = expit(np.where(truth > 0.5, rng.normal(-2, 1.5, n), rng.normal(-5, 1.5, n)))
    classes = [each.target for each in MANIFEST.classes]
    index = classes.index("endotracheal_tube.presence")
    every, known = np.zeros((n, COUNT)), np.full((n, COUNT), np.nan)
    every[:, index], known[:, index] = logits, truth
    cases = LabelledLogits(every, known, np.arange(n), {"endotracheal_tube.presence": course})
    found = list(calibrated_classes(MANIFEST, cases, PLAN))[index]
    calibration = found.after.calibration
    assert calibration is not None and found.after.operating_point is not None
    curve = calibration.slope, calibration.intercept
    scores = class_scores(logits[:, None], [found.after])[:, 0]
    together = np.array([presence_score(*each, *curve) for each in zip(scores, course, strict=True)])
    called = together >= found.after.operating_point
    assert called[truth > 0.5].mean() == pytest.approx(0.9, abs=0.002)
    assert found.sensitivity is not None
    assert found.sensitivity.low < 0.9 < found.sensitivity.high
