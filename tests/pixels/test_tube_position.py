import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.codes import DistanceBasis, TubePosition
from schemas.result import TipToCarina
from workers.tube_limits import NORMAL_RANGE_MM, endotracheal_limits
from workers.tube_position import position_by_class, tube_position

_SEVERITY = {TubePosition.NORMAL: 0, TubePosition.BORDERLINE: 1, TubePosition.ABNORMAL: 2}
_SCORES = st.none() | st.floats(0, 1)


def _distance(millimetres: float | None) -> TipToCarina:
    basis = DistanceBasis.NONE if millimetres is None else DistanceBasis.CALIBRATED
    return TipToCarina(pixels=100.0, millimetres=millimetres, basis=basis)


@pytest.mark.parametrize(
    ("millimetres", "malposition", "expected"),
    [
        (50, 0.1, TubePosition.NORMAL),
        (30, 0.1, TubePosition.NORMAL),
        (70, 0.1, TubePosition.NORMAL),
        (29.9, 0.1, TubePosition.BORDERLINE),
        (20, 0.1, TubePosition.BORDERLINE),
        (80, 0.1, TubePosition.BORDERLINE),
        (19.9, 0.9, TubePosition.ABNORMAL),
        (80.1, 0.9, TubePosition.ABNORMAL),
        (-12, 0.9, TubePosition.ABNORMAL),
        (19.9, 0.1, TubePosition.BORDERLINE),
        (-12, 0.1, TubePosition.BORDERLINE),
        (50, 0.9, TubePosition.BORDERLINE),
        (75, 0.9, TubePosition.BORDERLINE),
        (50, None, TubePosition.NORMAL),
        (-12, None, TubePosition.ABNORMAL),
        (None, 0.1, TubePosition.NORMAL),
        (None, 0.9, TubePosition.ABNORMAL),
        (None, None, TubePosition.INCOMPLETELY_IMAGED),
    ],
)
def test_the_rule_for_adults(millimetres: float | None, malposition: float | None, expected: TubePosition) -> None:
    assert tube_position(_distance(millimetres), malposition, 0.5, 60).position is expected


@pytest.mark.parametrize(
    ("low", "high", "malposition", "expected"),
    [
        (50.0, 60.0, 0.1, TubePosition.NORMAL),
        (27.0, 32.4, 0.1, TubePosition.BORDERLINE),
        (60.0, 72.0, 0.1, TubePosition.BORDERLINE),
        (70.0, 84.0, 0.9, TubePosition.BORDERLINE),
        (81.0, 97.2, 0.9, TubePosition.ABNORMAL),
        (-12.0, -10.0, 0.9, TubePosition.ABNORMAL),
    ],
)
def test_a_range_that_reaches_over_a_limit_is_borderline(
    low: float, high: float, malposition: float, expected: TubePosition
) -> None:
    distance = TipToCarina(
        pixels=high,
        millimetres=max(low, high, key=abs),
        basis=DistanceBasis.DETECTOR_PLANE,
        lowest_millimetres=low,
        highest_millimetres=high,
    )
    judgement = tube_position(distance, malposition, 0.5, 60)
    assert judgement.position is expected
    assert f"{min(abs(low), abs(high)):.1f} to {max(abs(low), abs(high)):.1f} mm" in judgement.reason


@pytest.mark.parametrize(
    ("age", "low", "high"), [(0.0, 10.6, 24.8), (2.0, 15.3, 35.8), (6.0, 18.9, 44.1), (17.99, 30, 70), (None, 30, 70)]
)
def test_the_limits_grow_with_the_trachea(age: float | None, low: float, high: float) -> None:
    limits = endotracheal_limits(age)
    assert (limits.low, limits.high) == pytest.approx((low, high), abs=0.06)
    assert tube_position(_distance((low + high) / 2), None, None, age).position is TubePosition.NORMAL
    assert tube_position(_distance(-1), None, None, age).position is TubePosition.ABNORMAL


@given(st.floats(0, 120), st.floats(0, 120))
def test_an_older_patients_limits_are_never_lower(one: float, other: float) -> None:
    younger, older = endotracheal_limits(min(one, other)), endotracheal_limits(max(one, other))
    assert younger.low <= older.low <= NORMAL_RANGE_MM[0]
    assert younger.high <= older.high <= NORMAL_RANGE_MM[1]


def test_the_reason_names_the_population_of_its_limits() -> None:
    assert "normal in adults: 30 to 70 mm)" in tube_position(_distance(50), None, None, 18).reason
    assert (
        "normal at 6 years: 19 to 44 mm, the range of adults scaled" in tube_position(_distance(50), 0.1, 0.5, 6).reason
    )
    assert "the patient's age is not known" in tube_position(_distance(50), None, None, None).reason
    # An age is completed years, or months.
    assert "normal at 17 years" in tube_position(_distance(50), None, None, 17.7).reason
    assert "normal at 23 months" in tube_position(_distance(50), None, None, 23 / 12).reason


@given(st.floats(0, 120))
def test_what_is_borderline_lies_above_the_carina_at_any_age(age: float) -> None:
    limits = endotracheal_limits(age)
    assert limits.low - limits.borderline > 0
    assert tube_position(_distance(-0.1), None, None, age).position is TubePosition.ABNORMAL


@pytest.mark.parametrize(
    ("tip_located", "score", "expected"),
    [
        (True, 0.9, TubePosition.ABNORMAL),
        (True, 0.1, TubePosition.NORMAL),
        (True, None, None),
        (None, 0.9, TubePosition.ABNORMAL),
        (None, 0.1, TubePosition.NORMAL),
        (False, 0.9, TubePosition.BORDERLINE),
        (False, 0.1, TubePosition.INCOMPLETELY_IMAGED),
        (False, None, TubePosition.INCOMPLETELY_IMAGED),
    ],
)
def test_a_device_without_a_distance_is_judged_by_its_class(
    tip_located: bool | None, score: float | None, expected: TubePosition | None
) -> None:
    judgement = position_by_class(tip_located, score, 0.5)
    assert judgement.position is expected
    assert judgement.reason.endswith(".")


def test_without_tip_or_carina_only_the_class_head_can_call_it_abnormal() -> None:
    assert tube_position(None, 0.4, 0.5).position is TubePosition.INCOMPLETELY_IMAGED
    assert tube_position(None, None, None).position is TubePosition.INCOMPLETELY_IMAGED
    assert tube_position(None, 0.6, 0.5).position is TubePosition.BORDERLINE


def test_the_reason_is_one_sentence_with_the_numbers() -> None:
    reason = tube_position(_distance(-12), 0.9, 0.5, 40).reason
    assert reason.startswith("The tip is 12.0 mm below the carina (calibrated; normal in adults: 30 to 70 mm)")
    assert "0.90" in reason
    assert "0.50" in reason
    assert reason.endswith(".")


@given(st.none() | st.floats(), _SCORES | st.just(math.nan), _SCORES, st.booleans(), st.none() | st.floats(0, 150))
def test_every_input_has_an_answer(
    millimetres: float | None, score: float | None, operating_point: float | None, located: bool, age: float | None
) -> None:
    judgement = tube_position(_distance(millimetres) if located else None, score, operating_point, age)
    assert judgement.position in list(TubePosition)
    assert judgement.reason.count(".") >= 1


@given(st.floats(-300, 300), st.floats(-300, 300), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.99))
def test_farther_from_normal_or_a_higher_score_is_never_judged_better(
    near: float, far: float, low: float, high: float, operating_point: float
) -> None:
    def outside(millimetres: float) -> float:
        return max(NORMAL_RANGE_MM[0] - millimetres, millimetres - NORMAL_RANGE_MM[1], 0)

    assume(outside(near) <= outside(far) and low <= high)
    better = tube_position(_distance(near), low, operating_point).position
    worse = tube_position(_distance(far), high, operating_point).position
    assert better is not None and worse is not None
    assert _SEVERITY[better] <= _SEVERITY[worse]
