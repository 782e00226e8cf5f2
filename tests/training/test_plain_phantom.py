import numpy as np
import pytest

from schemas.codes import Finding
from training.plain.phantom.devices import DISTANCE_RANGE_MM, draw_distance
from training.plain.phantom.pose import Pose
from training.plain.phantom.render import render_phantom
from training.plain.phantom.truth import LOCALISED_FINDINGS, Phantom, is_malpositioned
from workers.tube_position import BORDERLINE_MM, NORMAL_RANGE_MM


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    return [render_phantom(seed, 192, 160 if seed % 2 else 192) for seed in range(60)]


def test_the_same_seed_gives_the_same_phantom_and_another_seed_another() -> None:
    first, again, other = (render_phantom(seed, 96, 128) for seed in (7, 7, 8))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.masks, again.masks)
    assert first.findings == again.findings
    assert not np.array_equal(first.image, other.image)


def test_images_are_float32_in_0_to_1_and_use_the_range(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        assert phantom.image.dtype == np.float32
        assert phantom.image.shape == phantom.masks.shape[1:]
        assert phantom.image.min() >= 0
        assert phantom.image.max() <= 1
        assert phantom.image.std() > 0.1


def test_the_right_lung_is_on_the_left_of_the_image_and_lungs_are_dark(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        right, left, heart, _ = phantom.masks
        column_of = {name: np.nonzero(mask)[1].mean() for name, mask in (("r", right), ("l", left), ("h", heart))}
        assert column_of["r"] < column_of["h"] < column_of["l"]
        assert not (right & left).any()
    healthy = [phantom for phantom in phantoms if not phantom.findings]
    assert healthy
    for phantom in healthy:
        lungs = phantom.masks[0] | phantom.masks[1]
        outside_heart = lungs & ~phantom.masks[2]
        assert phantom.image[outside_heart].mean() < phantom.image[phantom.masks[2]].mean()


def test_the_tip_is_the_end_of_the_course_and_of_its_mask(phantoms: list[Phantom]) -> None:
    tubes = [(phantom, phantom.tube) for phantom in phantoms if phantom.tube is not None]
    assert 20 < len(tubes) < 50
    for phantom, tube in tubes:
        rows, columns = phantom.image.shape
        assert (tube.tip.x, tube.tip.y) == tuple(tube.course[-1])
        assert 0 < tube.tip.x < columns
        assert 0 < tube.tip.y < rows
        assert tube.tip_to_carina_mm == pytest.approx((phantom.carina.y - tube.tip.y) * phantom.mm_per_pixel, abs=1e-3)
        lowest = np.nonzero(phantom.masks[3].any(axis=1))[0].max()
        assert lowest == pytest.approx(tube.tip.y, abs=3 / phantom.mm_per_pixel + 1)


def test_a_phantom_without_tube_has_no_course(phantoms: list[Phantom]) -> None:
    assert not any(phantom.masks[3].any() for phantom in phantoms if phantom.tube is None)
    assert render_phantom(3, 96, 96, "absent").tube is None


def test_asking_for_a_position_gives_it() -> None:
    for seed in range(12):
        well, badly = (
            render_phantom(seed, 96, 96, "well-placed").tube,
            render_phantom(seed, 96, 96, "malpositioned").tube,
        )
        assert well is not None
        assert badly is not None
        # A small rotation shortens the distance along the rows axis a little.
        assert NORMAL_RANGE_MM[0] <= well.tip_to_carina_mm <= NORMAL_RANGE_MM[1]
        assert badly.malpositioned


def test_distances_cover_the_range_and_a_quarter_lies_near_the_limits() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_distance(rng, "any") for _ in range(4000)]
    tubes = np.array([distance for distance in drawn if distance is not None])
    assert 0.5 < len(tubes) / len(drawn) < 0.7
    assert DISTANCE_RANGE_MM[0] <= tubes.min() < 0
    assert 100 < tubes.max() <= DISTANCE_RANGE_MM[1]
    near = np.min([abs(tubes - limit) for limit in NORMAL_RANGE_MM], axis=0) <= BORDERLINE_MM
    assert near.mean() > 0.25


def test_malposition_is_beyond_the_borderline_zone() -> None:
    assert [is_malpositioned(mm) for mm in (-5, 19.9, 20, 30, 80, 80.1)] == [True, True, False, False, False, True]


def test_cardiomegaly_is_a_wider_heart(phantoms: list[Phantom]) -> None:
    def ratio(phantom: Phantom) -> float:
        lungs = (phantom.masks[0] | phantom.masks[1]).any(axis=0).sum()
        return float(phantom.masks[2].any(axis=0).sum() / lungs)

    large = [ratio(phantom) for phantom in phantoms if Finding.CARDIOMEGALY in phantom.findings]
    normal = [ratio(phantom) for phantom in phantoms if Finding.CARDIOMEGALY not in phantom.findings]
    assert min(large) > np.median(normal)
    assert np.median(large) > np.median(normal) + 0.1


def test_a_finding_has_its_place_inside_the_lungs_and_none_when_it_is_absent(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        lungs = phantom.masks[0] | phantom.masks[1]
        for finding, mask in zip(LOCALISED_FINDINGS, phantom.finding_masks, strict=True):
            assert not (mask & ~lungs).any()
            if finding not in phantom.findings:
                assert not mask.any()
    for finding, masks in zip(LOCALISED_FINDINGS, zip(*(p.finding_masks for p in phantoms), strict=True), strict=True):
        drawn = [mask.any() for mask, phantom in zip(masks, phantoms, strict=True) if finding in phantom.findings]
        assert sum(drawn) > 0.9 * len(drawn)


def test_pose_goes_to_pixels_and_back() -> None:
    pose = Pose(carina_x=91.5, carina_y=60.25, rotation=0.1, mm_per_pixel=1.7)
    points = np.random.default_rng(0).uniform(-100, 100, (20, 2))
    pixels = pose.to_pixels(points)
    back = np.concatenate([pixels, np.ones((20, 1))], axis=1) @ pose.pixel_to_thorax().T
    assert back == pytest.approx(points, abs=1e-3)
