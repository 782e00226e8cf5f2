import numpy as np
import pytest

from training.phantom.beam import draw_exposure
from training.phantom.body import Body, draw_body
from training.phantom.families import BODIES, DETECTORS, VENDORS
from training.phantom.shapes import half_depth, lateral_border
from training.phantom.truth import Family, View


def _bodies(age_years: float, count: int = 12, family: Family = Family.TRAINING) -> list[Body]:
    return [draw_body(np.random.default_rng(seed), BODIES[family], View.PA, age_years) for seed in range(count)]


def test_courses_meet_where_vessels_and_airways_do() -> None:
    for body in _bodies(50):
        assert body.trachea[-1] == pytest.approx([0, 0, 0], abs=1e-9)
        assert body.superior_vena_cava[-1] == pytest.approx(body.right_atrium[0])
        for following in (body.right_ventricle, body.outflow_tract):
            assert body.right_atrium[-1] == pytest.approx(following[0])
        for side in (body.right, body.left):
            assert side.bronchus[0] == pytest.approx([0, 0, 0], abs=1e-9)
            assert side.internal_jugular[-1] == pytest.approx(side.subclavian[-1])
            assert side.internal_jugular[-1] == pytest.approx(side.brachiocephalic[0])
            assert side.brachiocephalic[-1] == pytest.approx(body.superior_vena_cava[0])
            assert side.pulmonary_artery[0] == pytest.approx(body.outflow_tract[-1])


def test_what_is_right_lies_at_negative_x() -> None:
    for body in _bodies(40):
        assert body.right.bronchus[-1, 0] < 0 < body.left.bronchus[-1, 0]
        assert body.superior_vena_cava[:, 0].max() < 0
        assert body.heart_centre[0] > 0


def test_courses_stay_within_the_body() -> None:
    for age in (2, 10, 60):
        for body in _bodies(age):
            for course in (body.trachea, body.oesophagus, body.superior_vena_cava, body.right_ventricle):
                low = course[course[:, 1] > body.torso.shoulder + 30 * body.scale]
                depths = np.array([half_depth(body.torso, x, y) for x, y in low[:, :2]])
                assert np.all(np.abs(low[:, 2] - body.torso.centre_z) < depths)
            for side in (body.right, body.left):
                walls = np.array([lateral_border(side.lung, y) for y in side.pleura[:, 1]])
                assert np.all(np.abs(side.pleura[:, 0]) < walls)


def test_children_are_smaller_and_their_tracheas_shorter() -> None:
    widths = [np.mean([body.left.lung.width for body in _bodies(age)]) for age in (1, 5, 10, 30)]
    tracheas = [np.mean([-body.trachea[0, 1] for body in _bodies(age)]) for age in (1, 5, 10, 30)]
    assert widths == sorted(widths)
    assert tracheas == sorted(tracheas)
    assert widths[0] < 0.6 * widths[-1]
    # Griscom and Wohl 1986: about 5.4 cm in infants, 12 cm in adults.
    assert tracheas[0] == pytest.approx(54, rel=0.1)
    assert tracheas[-1] == pytest.approx(124, rel=0.1)


def test_the_cavoatrial_junction_lies_about_4_cm_below_the_carina_of_an_adult() -> None:
    assert np.mean([body.superior_vena_cava[-1, 1] for body in _bodies(50)]) == pytest.approx(40, abs=6)


def test_patients_of_the_frozen_family_are_stouter() -> None:
    widths = [np.mean([body.torso.half_width for body in _bodies(50, 30, family)]) for family in Family]
    assert widths[1] > 1.03 * widths[0]


def test_every_frozen_patient_and_detector_lies_outside_of_what_is_learned_from_on_either_side() -> None:
    girth, dose, blur = (
        BODIES[Family.TRAINING].girth,
        DETECTORS[Family.TRAINING].dose,
        DETECTORS[Family.TRAINING].blur_mm,
    )
    exposures = [draw_exposure(np.random.default_rng(seed), DETECTORS[Family.FROZEN]) for seed in range(300)]
    frozen = (
        [_relative_girth(body) for body in _bodies(40, 300, Family.FROZEN)],
        [np.log10(exposure.dose) for exposure in exposures],
        [exposure.blur_mm for exposure in exposures],
    )
    for learned, values in zip((girth, dose, blur), np.array(frozen), strict=True):
        below, above = values < learned.at(0), values > learned.at(1)
        assert (below | above).all() and min(below.sum(), above.sum()) > 30
    learned_girths = [_relative_girth(body) for body in _bodies(40, 300)]
    assert girth.at(0) - 1e-9 <= min(learned_girths) and max(learned_girths) <= girth.at(1) + 1e-9


def _relative_girth(adult: Body) -> float:
    """Fat moves the middle forward by a tenth of what it adds to the flank; without it only girth is left."""
    girth = (adult.torso.centre_z + 0.1 * adult.torso.half_width) / (6 + 0.1 * (139 + 20))
    return float(girth / (0.94 if adult.sex == "F" else 1))


def test_no_vendor_and_no_range_serves_both_families() -> None:
    assert not {vendor.name for vendor in VENDORS[Family.TRAINING]} & {vendor.name for vendor in VENDORS[Family.FROZEN]}
    for ranges in (BODIES, DETECTORS):
        training, frozen = ranges[Family.TRAINING], ranges[Family.FROZEN]
        assert [getattr(training, name) == getattr(frozen, name) for name in vars(training)].count(False) >= 6
