import numpy as np
import pytest

from training.phantom.chains import Chain, project_chains
from training.phantom.geometry import Geometry
from training.phantom.truth import View


def _geometry(view: View = View.PA, **changes: float) -> Geometry:
    numbers = {"imager_mm_per_pixel": 0.5, "source_to_detector_mm": 1000.0, "carina_to_detector_mm": 200.0, **changes}
    return Geometry(view, 200, 240, **numbers)


def test_a_point_is_magnified_by_its_distance_from_the_source() -> None:
    pixels, magnification = _geometry().project(np.array([[0.0, 0, 0], [10, -20, 0], [10, 0, 300]]))
    assert pixels[0] == pytest.approx([120, 100])
    # At the carina 1000 / 800, 300 mm nearer to the source 1000 / 500.
    assert magnification == pytest.approx([1.25, 1.25, 2.0])
    assert pixels[1] == pytest.approx([120 + 10 * 1.25 / 0.5, 100 - 20 * 1.25 / 0.5])
    assert pixels[2] == pytest.approx([120 + 10 * 2.0 / 0.5, 100])


def test_the_patients_left_is_on_the_images_right_in_both_frontal_views() -> None:
    for view in (View.PA, View.AP):
        pixels, _ = _geometry(view).project(np.array([[50.0, 0, 0]]))
        assert pixels[0, 0] > 120


def test_what_lies_in_front_is_larger_in_ap_and_smaller_in_pa() -> None:
    front = np.array([[0.0, 0, -80]])
    assert _geometry(View.AP).project(front)[1][0] > 1.25 > _geometry(View.PA).project(front)[1][0]


@pytest.mark.parametrize("view", list(View))
def test_the_ray_through_a_projected_point_meets_the_point(view: View) -> None:
    geometry = _geometry(view, rotation_degrees=7, tilt_degrees=-4, turn_degrees=3, middle_u=12, beam_v=-30)
    points = np.random.default_rng(0).normal(0, 60, (20, 3))
    pixels, _ = geometry.project(points)
    ends = np.column_stack([pixels, np.ones(20)]) @ geometry.pixel_to_patient.T
    rays = (ends - geometry.source) / np.linalg.norm(ends - geometry.source, axis=1, keepdims=True)
    away = points - geometry.source
    assert np.linalg.norm(np.cross(away, rays), axis=1).max() < 1e-3


def test_coarser_pixels_start_at_the_same_corner() -> None:
    fine = _geometry(turn_degrees=5, middle_u=8)
    coarse = fine.coarser(3)
    points = np.random.default_rng(1).normal(0, 40, (10, 3))
    assert coarse.project(points)[0] * 3 == pytest.approx(fine.project(points)[0], abs=1e-3)
    assert (coarse.rows, coarse.columns) == (67, 80)


def test_a_sphere_casts_the_shadow_of_its_magnified_disc_and_its_diameter_in_the_middle() -> None:
    geometry = _geometry()
    centre = np.array([10.0, -8.0, 100.0])
    layer = project_chains([Chain(np.stack([centre, centre + 1e-3]), 15.0)], geometry)
    magnification = 1000 / (1000 - 200 - 100)
    area = np.count_nonzero(layer) * 0.5**2
    assert area == pytest.approx(np.pi * (15 * magnification) ** 2, rel=0.02)
    assert layer.max() == pytest.approx(30.0, rel=0.01)
    # The volume, as its shadow's path lengths hold it.
    assert layer.sum() * (0.5 / magnification) ** 2 == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.02)


def test_a_tube_along_the_ray_is_denser_than_one_across_it() -> None:
    across = project_chains([Chain(np.array([[-20.0, 0, 0], [20, 0, 0]]), 2.0)], _geometry())
    oblique = project_chains([Chain(np.array([[-20.0, 0, -30], [20, 0, 30]]), 2.0)], _geometry())
    assert oblique[98:102, 115:125].max() > 1.4 * across[98:102, 115:125].max()


def test_a_line_thinner_than_a_pixel_keeps_its_material() -> None:
    # Wherever between the pixels' centres it runs, on average.
    geometry = _geometry(imager_mm_per_pixel=2.0)
    held = []
    for offset in np.arange(0, 1.6, 0.2):
        layer = project_chains([Chain(np.array([[-40.0, offset, 0], [40, offset, 0]]), 0.3)], geometry)
        held.append(layer[:, 110:130].sum() * (2.0 / 1.25) / 20)
    assert np.mean(held) == pytest.approx(np.pi * 0.3**2, rel=0.05)
