"""The clinical rules by which the phantom judges what it draws."""

import pytest

from schemas.codes import TubePosition
from training.phantom.position_rules import (
    Lies,
    central_venous_position,
    chest_tube_position,
    endotracheal_position,
    nasogastric_position,
    pulmonary_artery_position,
)
from workers.tube_limits import endotracheal_limits

NORMAL, BORDERLINE, ABNORMAL = TubePosition.NORMAL, TubePosition.BORDERLINE, TubePosition.ABNORMAL


@pytest.mark.parametrize(
    ("distance", "position"),
    [
        (-30, ABNORMAL), (-0.1, ABNORMAL), (19.9, ABNORMAL), (20, BORDERLINE), (29.9, BORDERLINE), (30, NORMAL),
        (50, NORMAL), (70, NORMAL), (70.1, BORDERLINE), (80, BORDERLINE), (80.1, ABNORMAL), (110, ABNORMAL),
    ],
)  # fmt: skip
def test_an_adults_endotracheal_tube_belongs_3_to_7_cm_above_the_carina(
    distance: float, position: TubePosition
) -> None:
    lies = Lies.TRACHEA if distance >= 0 else Lies.RIGHT_BRONCHUS
    judged = endotracheal_position(distance, lies, 50)
    assert judged.position is position
    assert "normal in adults: 30 to 70 mm" in judged.reason


def test_a_tube_in_the_oesophagus_is_abnormal_at_the_best_distance() -> None:
    assert endotracheal_position(50, Lies.OESOPHAGUS, 50).position is ABNORMAL


@pytest.mark.parametrize(("age", "distance"), [(0.0, 15), (1.0, 20), (5.0, 28), (12.0, 45)])
def test_a_childs_tube_belongs_lower_than_an_adults(age: float, distance: float) -> None:
    assert endotracheal_position(distance, Lies.TRACHEA, age).position is NORMAL
    assert endotracheal_position(75, Lies.TRACHEA, age).position is not NORMAL
    assert "children" in endotracheal_position(distance, Lies.TRACHEA, age).reason


@pytest.mark.parametrize("age", [0.0, 0.1, 1.0, 8.0, 17.0, 60.0])
def test_below_the_carina_is_abnormal_at_any_age(age: float) -> None:
    assert endotracheal_position(-0.5, Lies.LEFT_BRONCHUS, age).position is ABNORMAL
    limits = endotracheal_limits(age)
    assert endotracheal_position(limits.low, Lies.TRACHEA, age).position is NORMAL
    assert endotracheal_position(limits.high, Lies.TRACHEA, age).position is NORMAL


@pytest.mark.parametrize(
    ("beyond", "lies", "coiled", "position"),
    [
        (100, Lies.STOMACH, False, NORMAL),
        (99, Lies.STOMACH, False, BORDERLINE),
        (0, Lies.STOMACH, False, BORDERLINE),
        (-1, Lies.OESOPHAGUS, False, ABNORMAL),
        (-1, Lies.RIGHT_BRONCHUS, False, ABNORMAL),
        (-1, Lies.OESOPHAGUS, True, ABNORMAL),
    ],
)
def test_a_nasogastric_tube_belongs_10_cm_into_the_stomach(
    beyond: float, lies: Lies, coiled: bool, position: TubePosition
) -> None:
    assert nasogastric_position(beyond, lies, coiled, 50).position is position


@pytest.mark.parametrize(
    ("above", "short", "lies", "position"),
    [
        (40, 0, Lies.SUPERIOR_VENA_CAVA, NORMAL),
        (10.1, 0, Lies.SUPERIOR_VENA_CAVA, NORMAL),
        (10, 0, Lies.SUPERIOR_VENA_CAVA, BORDERLINE),
        (-10, 0, Lies.RIGHT_ATRIUM, BORDERLINE),
        (-10.1, 0, Lies.RIGHT_ATRIUM, ABNORMAL),
        (90, 20, Lies.BRACHIOCEPHALIC_VEIN, BORDERLINE),
        (90, 21, Lies.BRACHIOCEPHALIC_VEIN, ABNORMAL),
        (40, 0, Lies.OTHER_VEIN, ABNORMAL),
    ],
)
def test_a_central_venous_catheter_belongs_in_the_superior_vena_cava(
    above: float, short: float, lies: Lies, position: TubePosition
) -> None:
    assert central_venous_position(above, short, lies, 50).position is position


@pytest.mark.parametrize(
    ("beyond", "lies", "position"),
    [
        (-30, Lies.PULMONARY_ARTERY, NORMAL),
        (20, Lies.PULMONARY_ARTERY, NORMAL),
        (30, Lies.PULMONARY_ARTERY, BORDERLINE),
        (31, Lies.PULMONARY_ARTERY, ABNORMAL),
        (-80, Lies.RIGHT_VENTRICLE, ABNORMAL),
    ],
)
def test_a_pulmonary_artery_catheter_belongs_within_2_cm_of_the_hilum(
    beyond: float, lies: Lies, position: TubePosition
) -> None:
    assert pulmonary_artery_position(beyond, lies, 50).position is position


@pytest.mark.parametrize(("inside", "position"), [(10, NORMAL), (9, BORDERLINE), (0, BORDERLINE), (-1, ABNORMAL)])
def test_every_side_hole_of_a_chest_tube_belongs_inside(inside: float, position: TubePosition) -> None:
    assert chest_tube_position(inside, 50).position is position
