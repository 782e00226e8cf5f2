import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.codes import DistanceBasis, TubePosition
from schemas.result import TipToCarina
from workers.tube_position import NORMAL_RANGE_MM, tube_position

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
        (19.9, 0.1, TubePosition.ABNORMAL),
        (80.1, 0.1, TubePosition.ABNORMAL),
        (-12, 0.1, TubePosition.ABNORMAL),
        (50, 0.9, TubePosition.BORDERLINE),
        (75, 0.9, TubePosition.ABNORMAL),
        (50, None, TubePosition.NORMAL),
        (None, 0.1, TubePosition.NORMAL),
        (None, 0.9, TubePosition.ABNORMAL),
        (None, None, TubePosition.INCOMPLETELY_IMAGED),
    ],
)
def test_the_rule_for_adults(millimetres: float | None, malposition: float | None, expected: TubePosition) -> None:
    assert tube_position(_distance(millimetres), malposition, 0.5).position is expected


def test_without_tip_or_carina_only_the_class_head_can_call_it_abnormal() -> None:
    assert tube_position(None, 0.4, 0.5).position is TubePosition.INCOMPLETELY_IMAGED
    assert tube_position(None, None, None).position is TubePosition.INCOMPLETELY_IMAGED
    assert tube_position(None, 0.6, 0.5).position is TubePosition.BORDERLINE


def test_the_reason_is_one_sentence_with_the_numbers() -> None:
    reason = tube_position(_distance(-12), 0.9, 0.5).reason
    assert reason.startswith("The tip is 12.0 mm below the carina (calibrated; normal in adults: 30 to 70 mm)")
    assert "0.90" in reason
    assert "0.50" in reason
    assert reason.endswith(".")


@given(st.none() | st.floats(), _SCORES | st.just(math.nan), _SCORES, st.booleans())
def test_every_input_has_an_answer(
    millimetres: float | None, score: float | None, operating_point: float | None, located: bool
) -> None:
    judgement = tube_position(_distance(millimetres) if located else None, score, operating_point)
    assert judgement.position in TubePosition
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
    assert _SEVERITY[better] <= _SEVERITY[worse]
