import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.bundle import Metric
from schemas.codes import Device, DistanceBasis, Segment
from schemas.result import Point, TipToCarina, TubeResult
from tests.support.examples import COLUMNS, ROWS
from training.evaluation.cases import NOT_LOCATED_MM
from training.evaluation.phantoms import (
    PhantomBaseline,
    evaluate_phantoms,
    phantom_cases,
)
from training.evaluation.reading import DeviceReading, PhantomReading, TubeReading, abnormal_score
from training.evaluation.refusals import RefusalReading, evaluate_refusals
from training.evaluation.statistics import sensitivity_at_specificity
from training.evaluation.typical import OUTLINE_SIDE, FilmTruth, shrunk
from training.examples.store import Examples
from training.examples.targets import TARGETS
from training.phantom.not_chest import Subject

_PRESENCE, _MALPOSITION = "endotracheal_tube.presence", "endotracheal_tube.malposition"


def _reading(seed: int, *, right: bool) -> PhantomReading:
    """A third without a tube, a third with a good one, a third with a bad one."""
    kind, image = seed % 3, np.random.default_rng(seed).integers(0, 255, (64, 64)).astype(np.uint8)
    truth = {_PRESENCE: float(kind > 0)} | ({_MALPOSITION: float(kind == 2)} if kind else {})
    said = (kind == 2) == right
    tube = TubeReading(3.0 + seed % 2, 2.0, 4.0, 0.9 if said else 0.1, called_abnormal=said)
    return PhantomReading(
        seed=seed,
        age_years=10.0 * (seed % 9),
        sex="FM"[seed % 2],
        view="AP",
        scores={_PRESENCE: truth[_PRESENCE]},
        truth=truth,
        image=image,
        refused="",
        dice={Segment.RIGHT_LUNG: 0.9, Segment.LEFT_LUNG: 0.8},
        tube=tube,
        first_look=replace(tube, tip_error_mm=6.0),
        devices={Device.ENDOTRACHEAL_TUBE: DeviceReading(1.0 + seed % 7, 3.0, 1.0)} if kind else {},
        film=_film(tube=kind > 0),
    )


def _film(*, tube: bool) -> FilmTruth:
    """A drawing's lungs (tests/support/examples.py) at half its size; its tip and carina moved right by 12 pixels."""
    lungs = np.zeros((2, ROWS, COLUMNS), np.bool_)
    lungs[0, 150:450, 60:200] = True
    lungs[1, 150:420, 280:420] = True
    return FilmTruth(
        rows=ROWS // 2,
        columns=COLUMNS // 2,
        mm_per_pixel=0.5,
        tips={Device.ENDOTRACHEAL_TUBE: Point(x=119 + 12, y=93)} if tube else {},
        carina=Point(x=120 + 12, y=130),
        tip_to_carina_mm=18.5 if tube else math.nan,
        regions={
            region: shrunk(lung, OUTLINE_SIDE) > 0.5
            for region, lung in zip((Segment.RIGHT_LUNG, Segment.LEFT_LUNG), lungs, strict=True)
        },
    )


def _figures(readings: list[PhantomReading], examples: Examples) -> dict[str, Metric]:
    return {figure.name: figure for figure in evaluate_phantoms(readings, PhantomBaseline(examples))}


@pytest.fixture(scope="module")
def figures(examples: Examples) -> dict[str, Metric]:
    """Of 90 right readings."""
    return _figures([_reading(seed, right=True) for seed in range(90)], examples)


def test_the_figures_say_what_was_right_by_contrast_and_beside_a_thumbnail(figures: dict[str, Metric]) -> None:
    for name in ("all", "lowest tercile of contrast", "middle tercile of contrast", "highest tercile of contrast"):
        assert figures[f"AUROC abnormal tube, {name}"].value == 1.0
        assert figures[f"abnormal tube, sensitivity at 95 % specificity, {name}"].value == 1.0
    middle = figures["AUROC abnormal tube, middle tercile of contrast"]
    assert 30 < middle.n < 90
    assert middle.baseline == pytest.approx(0.5, abs=0.2)
    assert figures["tube tip error, median mm"].value == pytest.approx(3.5, abs=0.51)
    assert figures["tube tip error, median mm, first look alone"].value == 6.0
    assert figures["Dice right_lung, mean"].value == pytest.approx(0.9)
    assert figures["Dice lungs, mean"].value == pytest.approx(0.85)
    assert figures["AUROC endotracheal_tube.presence"].value == 1.0
    assert figures["Dice lungs, mean, sex F"].n == 45


def test_distances_and_outlines_stand_beside_where_things_usually_are(figures: dict[str, Metric]) -> None:
    # Of the drawings that were learned from tips lie anywhere between rows 130 and 240 of 600, carinas in one place.
    tip = figures["tube tip error, median mm"]
    assert tip.baseline is not None and 6 < tip.baseline < 25
    assert figures["carina error, median mm"].baseline == pytest.approx(6.0, abs=0.8)
    assert figures["tip to carina error, median mm"].baseline == pytest.approx(0.0, abs=6)
    assert figures["Dice lungs, mean"].baseline == pytest.approx(1.0, abs=0.05)


def test_what_separates_completely_still_has_an_interval_with_a_width(figures: dict[str, Metric]) -> None:
    for name in ("AUROC abnormal tube, all", "abnormal tube, sensitivity at 95 % specificity, all"):
        figure = figures[name]
        # 30 malpositioned tubes and 60 others prove no more.
        assert (figure.value, figure.high) == (1.0, 1.0)
        assert 0.85 < figure.low < 0.97


def test_what_results_call_abnormal_is_counted_among_tubes(figures: dict[str, Metric]) -> None:
    sensitivity = figures["malpositioned tube called abnormal, sensitivity"]
    specificity = figures["malpositioned tube called abnormal, specificity among tubes"]
    assert (sensitivity.value, sensitivity.n) == (1.0, 30)
    assert (specificity.value, specificity.n) == (1.0, 30)


def test_wrong_answers_show(examples: Examples) -> None:
    figures = _figures([_reading(seed, right=False) for seed in range(30)], examples)
    assert figures["AUROC abnormal tube, all"].value == 0.0


def test_a_tip_that_was_not_located_counts_as_far_off_and_no_tube_as_nothing() -> None:
    lost = replace(_reading(1, right=True), tube=TubeReading())
    cases = phantom_cases([lost, _reading(0, right=True), _reading(2, right=True)])
    errors = cases.figures["tube tip error mm"]
    assert errors[0] == NOT_LOCATED_MM
    assert np.isnan(errors[1])
    assert errors[2] == 3.0
    assert cases.figures["truth abnormal tube"].tolist() == [0.0, 0.0, 1.0]


def test_sensitivity_is_taken_where_95_percent_of_the_others_stay_below() -> None:
    absent, present = np.linspace(0, 1, 101), np.array([0.97, 0.9, 0.99, 0.2])
    rows: NDArray[np.float64] = np.array([*((each, 0.0) for each in absent), *((each, 1.0) for each in present)])
    assert sensitivity_at_specificity(rows) == 0.5
    assert math.isnan(sensitivity_at_specificity(rows[:101]))


def _tube(millimetres: float | None, score: float = 0.9, malposition: float | None = 0.5) -> TubeResult:
    distance = None
    if millimetres is not None:
        distance = TipToCarina(pixels=millimetres, millimetres=millimetres, basis=DistanceBasis.CALIBRATED)
    return TubeResult(
        device=Device.ENDOTRACHEAL_TUBE,
        present=True,
        score=score,
        operating_point=0.5,
        calibrated=False,
        malposition_score=malposition,
        tip_to_carina=distance,
    )


def test_the_farther_a_tube_lies_beyond_its_limits_the_more_abnormal_it_is() -> None:
    scores = [abnormal_score(_tube(mm), 60.0) for mm in (50, 85, 95, 120)]
    assert scores == sorted(scores)
    assert abnormal_score(_tube(-5), 60.0) > 0.6 > abnormal_score(_tube(50), 60.0)
    # 60 mm above the carina is well for an adult and far too high for an infant.
    assert abnormal_score(_tube(60), 1.0) > 2 * abnormal_score(_tube(60), 60.0)
    assert abnormal_score(None, 60.0) == 0.0
    assert abnormal_score(_tube(None, score=0.1, malposition=None), 60.0) < 0.05


def test_refusals_are_counted_for_all_and_by_what_was_shown() -> None:
    readings = [RefusalReading(Subject.HAND, True, True)] * 3 + [RefusalReading(Subject.BLANK, False, False)]
    figures = {figure.name: figure for figure in evaluate_refusals(readings)}
    assert figures["other images refused, share"].value == 0.75
    assert figures["hand refused, share"].value == 1.0
    # Three hands prove little.
    assert figures["hand refused, share"].low < 0.5
    assert figures["blank refused, share"].n == 1
    assert figures["other images refused for the right reason, share of refused"].value == 1.0


def test_every_target_of_a_phantom_has_a_column() -> None:
    assert len(set(TARGETS)) == len(TARGETS)
    assert {_PRESENCE, _MALPOSITION, "view.ap", "acceptance.lateral"} <= set(TARGETS)
