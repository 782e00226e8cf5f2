from collections import Counter

import numpy as np

from schemas.codes import Finding
from training.phantom.findings import PREVALENCE
from training.phantom.render import code_digest, render_phantom
from training.phantom.truth import Family, Phantom, Structure, View


def test_the_same_seed_gives_the_same_phantom_and_another_seed_another() -> None:
    first, again, other = (render_phantom(seed, 96, 128) for seed in (7, 7, 8))
    assert np.array_equal(first.image, again.image)
    assert all(np.array_equal(first.masks[name], again.masks[name]) for name in Structure)
    assert (first.findings, first.landmarks, first.age_years) == (again.findings, again.landmarks, again.age_years)
    assert [device.tip for device in first.devices] == [device.tip for device in again.devices]
    assert not np.array_equal(first.image, other.image)


def test_images_are_float32_in_0_to_1_and_use_the_range(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        assert phantom.image.dtype == np.float32
        assert np.isfinite(phantom.image).all()
        assert phantom.image.min() >= 0
        assert phantom.image.max() <= 1
        assert phantom.image.std() > 0.08
        assert {mask.shape for mask in phantom.masks.values()} == {phantom.image.shape}


def test_the_right_lung_is_on_the_left_of_the_image_and_the_heart_left_of_the_midline(
    phantoms: list[Phantom],
) -> None:
    for phantom in phantoms:
        right, left, heart = (
            np.nonzero(phantom.masks[name])[1].mean()
            for name in (Structure.RIGHT_LUNG, Structure.LEFT_LUNG, Structure.HEART)
        )
        assert right < heart < left
        assert not (phantom.masks[Structure.RIGHT_LUNG] & phantom.masks[Structure.LEFT_LUNG]).any()
    shifts = [
        np.nonzero(phantom.masks[Structure.HEART])[1].mean() - phantom.landmarks["carina"].x for phantom in phantoms
    ]
    assert np.mean(np.array(shifts) > 0) > 0.9


def test_healthy_lungs_are_darker_than_the_heart(phantoms: list[Phantom]) -> None:
    healthy = [phantom for phantom in phantoms if not phantom.findings]
    assert len(healthy) > 5
    for phantom in healthy:
        heart = phantom.masks[Structure.HEART]
        lungs = (phantom.masks[Structure.RIGHT_LUNG] | phantom.masks[Structure.LEFT_LUNG]) & ~heart
        assert phantom.image[lungs].mean() < phantom.image[heart].mean()


def test_lungs_heart_clavicles_and_ribs_have_plausible_areas(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        share = {name: float(mask.mean()) for name, mask in phantom.masks.items()}
        assert 0.05 < share[Structure.RIGHT_LUNG] < 0.45
        assert 0.05 < share[Structure.LEFT_LUNG] < 0.45
        assert 0.03 < share[Structure.HEART] < 0.4
        assert share[Structure.RIBS] > 0.05
        assert share[Structure.CLAVICLES] > 0.002


def test_landmarks_lie_where_their_structures_do(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        carina = phantom.landmarks["carina"]
        rows, columns = phantom.image.shape
        assert 0 < carina.x < columns
        assert 0 < carina.y < rows
        for name, structure in (("right", Structure.RIGHT_LUNG), ("left", Structure.LEFT_LUNG)):
            top = np.nonzero(phantom.masks[structure].any(axis=1))[0].min()
            apex = phantom.landmarks.get(f"{name}_apex")
            if apex is not None:
                assert abs(top - apex.y) * phantom.imager_mm_per_pixel < 25


def test_findings_are_answered_and_have_masks_within_the_image(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        assert phantom.findings <= phantom.answered <= frozenset(PREVALENCE)
        assert phantom.finding_masks.keys() <= phantom.findings
        for mask in phantom.finding_masks.values():
            assert mask.shape == phantom.image.shape
            assert mask.any()


def test_every_finding_is_drawn_about_as_often_as_stated_and_a_third_has_none() -> None:
    phantoms = [render_phantom(seed, 64, 64, devices=False) for seed in range(250)]
    counts = Counter(finding for phantom in phantoms for finding in phantom.findings)
    for finding, share in PREVALENCE.items():
        # Fewer are present than drawn: some are not seen, some need an age or a view.
        assert 0.15 * share < counts[finding] / 250 < 1.4 * share, finding
    assert 0.25 < np.mean([not phantom.findings for phantom in phantoms]) < 0.5


def test_a_finding_changes_the_image_within_its_mask() -> None:
    changed = []
    for seed in range(120):
        phantom = render_phantom(seed, 64, 64, devices=False)
        mask = phantom.finding_masks.get(Finding.CONSOLIDATION)
        if mask is None or len(phantom.findings) > 1:
            continue
        lungs = (phantom.masks[Structure.RIGHT_LUNG] | phantom.masks[Structure.LEFT_LUNG]) & ~phantom.masks[
            Structure.HEART
        ]
        changed.append(phantom.image[mask & lungs].mean() - phantom.image[lungs & ~mask].mean())
    assert len(changed) >= 2
    assert np.mean(changed) > 0.02


def test_cardiomegaly_is_a_wide_heart(phantoms: list[Phantom]) -> None:
    def ratio(phantom: Phantom) -> float:
        lungs = phantom.masks[Structure.RIGHT_LUNG] | phantom.masks[Structure.LEFT_LUNG]
        widths = [np.ptp(np.nonzero(mask.any(axis=0))[0]) for mask in (phantom.masks[Structure.HEART], lungs)]
        return float(widths[0] / widths[1])

    large = [ratio(phantom) for phantom in phantoms if Finding.CARDIOMEGALY in phantom.findings]
    normal = [ratio(phantom) for phantom in phantoms if Finding.CARDIOMEGALY not in phantom.findings]
    assert np.mean(large) > np.mean(normal) + 0.08


def test_a_child_fills_the_image_with_fewer_millimetres() -> None:
    child, adult = (render_phantom(3, 96, 96, view=View.AP, age_years=age) for age in (2, 50))
    assert child.imager_mm_per_pixel < 0.75 * adult.imager_mm_per_pixel


def test_leaving_out_devices_changes_nothing_else() -> None:
    full, bare = (render_phantom(11, 96, 96, devices=devices) for devices in (True, False))
    assert bare.devices == ()
    assert bare.foreign_objects == 0
    assert full.findings == bare.findings
    assert all(np.array_equal(full.masks[name], bare.masks[name]) for name in Structure)


def test_twins_differ_from_the_image_by_bones_and_by_nodules_alone() -> None:
    with_nodule = 0
    for seed in range(30):
        phantom = render_phantom(seed, 96, 96, devices=False, twins=True)
        assert phantom.bone_free is not None
        assert phantom.nodule_free is not None
        ribs = phantom.masks[Structure.RIBS]
        assert np.abs(phantom.bone_free - phantom.image)[ribs].mean() > 0.005
        lumps = phantom.findings & {Finding.NODULE, Finding.MASS}
        difference = phantom.image - phantom.nodule_free
        if not lumps and {Finding.NODULE, Finding.MASS} <= phantom.answered:
            assert np.array_equal(phantom.nodule_free, phantom.image)
        for finding in lumps:
            with_nodule += 1
            assert difference[phantom.finding_masks[finding]].mean() > 0.01
    assert with_nodule > 2


def test_the_same_seed_is_another_patient_in_each_family() -> None:
    training, frozen = (render_phantom(4, 64, 64, family=family, view=View.PA, age_years=50) for family in Family)
    assert training.family is Family.TRAINING
    assert frozen.family is Family.FROZEN
    assert np.abs(training.image - frozen.image).mean() > 0.02


def test_a_lateral_view_answers_only_what_it_can_show() -> None:
    phantom = render_phantom(5, 128, 128, view=View.LATERAL)
    assert np.isfinite(phantom.image).all()
    assert not phantom.answered & {Finding.CARDIOMEGALY, Finding.PNEUMOTHORAX}
    assert phantom.masks[Structure.RIGHT_LUNG].any()


def test_the_digest_names_the_version_of_the_code() -> None:
    assert len(code_digest()) == 64
