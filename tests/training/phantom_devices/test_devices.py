"""Devices in the patient and on the image: that the truth says what was drawn."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.codes import TubePosition
from training.phantom.body import Body, draw_body
from training.phantom.chains import Chain, project_chains
from training.phantom.device_parts import Material, MaterialLayers, PlacedDevice, project_parts
from training.phantom.devices import device_truths, draw_device, draw_devices
from training.phantom.endotracheal_tube import TubeChoice, draw_endotracheal_tube
from training.phantom.families import BODIES
from training.phantom.foreign_objects import MOST_DISTRACTOR_LINES, draw_foreign_objects
from training.phantom.geometry import Geometry
from training.phantom.makes import ENDOTRACHEAL, GASTRIC, PLEURAL, VENOUS
from training.phantom.truth import DeviceKind, Family, View
from workers.tube_limits import endotracheal_limits

RULED = [kind for kind in DeviceKind if kind not in (DeviceKind.PACEMAKER, DeviceKind.ECG_LEADS)]


@cache
def _body(seed: int = 0, age_years: float | None = None) -> Body:
    rng = np.random.default_rng(seed)
    return draw_body(
        rng, BODIES[Family.TRAINING], View.PA, float(rng.uniform(1, 95)) if age_years is None else age_years
    )


def _geometry(body: Body, pixels: int = 384) -> Geometry:
    """An upright patient, straight, all of the chest on the image."""
    return Geometry(
        view=View.PA,
        rows=pixels,
        columns=pixels,
        imager_mm_per_pixel=2.9 * body.torso.half_width / pixels,
        source_to_detector_mm=1500,
        carina_to_detector_mm=110,
    )


def _placed(kind: DeviceKind, count: int, age_years: float | None = None) -> list[PlacedDevice]:
    """`count` devices, each in a patient of its own."""
    return [
        draw_device(np.random.default_rng([7, seed]), kind, _body(seed, age_years), Family.TRAINING)[0]
        for seed in range(count)
    ]


def _shade(layers: MaterialLayers) -> NDArray[np.float32]:
    """A picture of nothing but a device, with grain."""
    shadow = 0.01 * layers.plastic + 0.05 * layers.radiopaque + 0.2 * layers.metal
    grain = np.random.default_rng(0).standard_normal(shadow.shape)
    return np.asarray(np.clip(0.4 + shadow, 0, 1) + 0.01 * grain, dtype=np.float32)


@pytest.mark.parametrize("age", [2.0, 9.0, 60.0])
def test_the_distance_of_the_tip_is_that_of_the_image_within_a_pixel(age: float) -> None:
    for seed in range(12):
        body = _body(seed, age)
        geometry = _geometry(body)
        tube = draw_endotracheal_tube(np.random.default_rng(seed), body, Family.TRAINING)
        tip, magnification = geometry.project(tube.course[-1:])
        carina = geometry.project_point(body.trachea[-1])
        assert tube.tip_to_carina_mm is not None
        measured = (carina.y - float(tip[0, 1])) * geometry.imager_mm_per_pixel / float(magnification[0])
        assert measured == pytest.approx(tube.tip_to_carina_mm, abs=geometry.patient_mm_per_pixel)


def test_distances_are_drawn_without_a_gap_and_a_quarter_lies_near_a_limit() -> None:
    # A trachea long enough that the larynx stops no tube of this range.
    body = _body(0, 60.0)
    limits = endotracheal_limits(60.0)
    drawn = [
        draw_endotracheal_tube(np.random.default_rng(seed), body, Family.TRAINING).tip_to_carina_mm or 0.0
        for seed in range(400)
    ]
    near = [min(abs(each - limits.low), abs(each - limits.high)) <= 10 for each in drawn]
    assert np.mean(near) >= 0.25
    assert min(drawn) < -22
    assert max(drawn) > 95
    assert np.diff(np.sort(drawn)).max() < 6


def test_the_choice_of_a_tube_is_kept() -> None:
    for seed in range(25):
        rng, body = np.random.default_rng(seed), _body(seed)
        well = draw_endotracheal_tube(rng, body, Family.TRAINING, TubeChoice.WELL_PLACED)
        badly = draw_endotracheal_tube(rng, body, Family.TRAINING, TubeChoice.MALPOSITIONED)
        assert well.judgement is not None and well.judgement.position is TubePosition.NORMAL
        assert badly.judgement is not None and badly.judgement.position is TubePosition.ABNORMAL
        none = draw_devices(rng, body, Family.TRAINING, TubeChoice.ABSENT)
        assert all(device.kind is not DeviceKind.ENDOTRACHEAL_TUBE for device in none)


@pytest.mark.parametrize("age", [1.0, 6.0, 60.0])
def test_a_tube_stays_inside_of_the_trachea(age: float) -> None:
    for seed in range(15):
        body = _body(seed, age)
        tube = draw_endotracheal_tube(np.random.default_rng(seed), body, Family.TRAINING, TubeChoice.WELL_PLACED)
        inside = tube.course[tube.course[:, 1] > body.trachea[0, 1] + 3]
        middle = np.stack([np.interp(inside[:, 1], body.trachea[:, 1], body.trachea[:, i]) for i in (0, 2)], axis=1)
        away = np.linalg.norm(inside[:, [0, 2]] - middle, axis=1)
        # Sideways and front to back at most 0.95 of the room each.
        assert away.max() + tube.radius_mm <= 1.42 * body.trachea_radius
        assert tube.radius_mm < body.trachea_radius


@pytest.mark.parametrize("kind", list(DeviceKind))
def test_every_kind_is_drawn_and_stands_out(kind: DeviceKind) -> None:
    body = _body(3, 60.0)
    geometry = _geometry(body)
    for seed in range(6):
        devices = draw_device(np.random.default_rng(seed), kind, body, Family.TRAINING)
        layers = project_parts([part for device in devices for part in device.parts], geometry)
        truths = device_truths(devices, geometry, _shade(layers))
        assert {truth.kind for truth in truths} == {kind}
        assert all(truth.contrast_to_noise > 1.5 for truth in truths if len(truth.course) > 20)
        for truth in truths:
            columns, rows = truth.course.astype(int).T
            drawn = layers.plastic + layers.radiopaque + layers.metal
            assert (drawn[rows, columns] > 0).mean() > 0.9
        assert min(layer.min() for layer in (layers.plastic, layers.radiopaque, layers.metal, layers.air)) >= 0


@pytest.mark.parametrize("kind", RULED)
def test_what_is_drawn_ends_at_the_tip_within_a_pixel(kind: DeviceKind) -> None:
    for seed, device in enumerate(_placed(kind, 12)):
        geometry = _geometry(_body(seed), 512)
        layers = project_parts([part for part in device.parts if part.material is not Material.AIR], geometry)
        rows, columns = np.nonzero(layers.plastic + layers.radiopaque + layers.metal)
        ends, _ = geometry.project(device.course[[-4, -1]])
        forwards = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
        drawn = np.stack([columns, rows], axis=1) + 0.5 - ends[1]
        near = drawn[np.linalg.norm(drawn, axis=1) < 4 + device.radius_mm / geometry.patient_mm_per_pixel]
        if not 10 < ends[1, 1] < 502:
            continue
        # A line that is thinner than the pixels' grid is drawn a pixel and a half wide.
        assert -1.5 < (near @ forwards).max() < 1.5, seed


def test_a_tubes_walls_are_even_along_it() -> None:
    geometry = _geometry(_body(0, 60.0), 512)
    course = np.stack([np.zeros(60), np.linspace(-80, 40, 60), np.zeros(60)], axis=1)
    layer = project_chains([Chain(course, 6.0, hollow=0.8)], geometry)
    inside = layer[190:270, 256]
    assert inside.min() == pytest.approx(2 * 6.0 * 0.2, rel=0.05)
    assert inside.max() == pytest.approx(inside.min(), rel=0.02)


@pytest.mark.parametrize("kind", RULED)
def test_all_positions_of_a_kind_occur(kind: DeviceKind) -> None:
    positions = [device.judgement.position for device in _placed(kind, 90) if device.judgement is not None]
    assert len(positions) == 90
    for position in (TubePosition.NORMAL, TubePosition.BORDERLINE, TubePosition.ABNORMAL):
        assert positions.count(position) >= 5, position


def test_what_is_called_normal_lies_where_it_belongs() -> None:
    for seed in range(60):
        body = _body(seed)
        for kind in RULED:
            device = draw_device(np.random.default_rng([7, seed]), kind, body, Family.TRAINING)[0]
            if device.judgement is None or device.judgement.position is not TubePosition.NORMAL:
                continue
            place = {
                DeviceKind.ENDOTRACHEAL_TUBE: body.trachea,
                DeviceKind.NASOGASTRIC_TUBE: body.oesophagus[body.oesophagus_end :],
                DeviceKind.CENTRAL_VENOUS_CATHETER: body.superior_vena_cava,
                DeviceKind.PULMONARY_ARTERY_CATHETER: np.concatenate(
                    [body.outflow_tract, body.right.pulmonary_artery, body.left.pulmonary_artery]
                ),
                DeviceKind.CHEST_TUBE: np.concatenate([body.right.pleura, body.left.pleura]),
            }[kind]
            near = 45 if kind is DeviceKind.CHEST_TUBE else 16
            assert np.linalg.norm(place - device.course[-1], axis=1).min() < near, (kind, seed)


def test_a_tip_outside_of_the_image_is_incompletely_imaged() -> None:
    body = _body(1, 60.0)
    geometry = Geometry(
        view=View.PA,
        rows=100,
        columns=300,
        imager_mm_per_pixel=1.0,
        source_to_detector_mm=1500,
        carina_to_detector_mm=110,
        middle_v=-240.0,
    )
    tube = draw_endotracheal_tube(np.random.default_rng(0), body, Family.TRAINING, TubeChoice.WELL_PLACED)
    truth = device_truths([tube], geometry, np.zeros((100, 300), dtype=np.float32))[0]
    assert truth.tip is None
    assert truth.position is TubePosition.INCOMPLETELY_IMAGED
    assert truth.tip_to_carina_mm == tube.tip_to_carina_mm


def test_collimation_hides_a_device() -> None:
    body = _body(1, 60.0)
    geometry = _geometry(body)
    tube = draw_endotracheal_tube(np.random.default_rng(0), body, Family.TRAINING, TubeChoice.WELL_PLACED)
    dark = np.zeros((geometry.rows, geometry.columns), dtype=np.bool_)
    image = np.zeros(dark.shape, dtype=np.float32)
    assert len(device_truths([tube], geometry, image, dark)[0].course) == 0
    assert len(device_truths([tube], geometry, image, ~dark)[0].course) > 20


def test_every_image_carries_none_to_four_distractor_lines() -> None:
    body = _body(2, 60.0)
    geometry = _geometry(body, 128)
    counts = []
    for seed in range(60):
        foreign = draw_foreign_objects(np.random.default_rng(seed), body, Family.TRAINING)
        counts.append(foreign.lines)
        assert foreign.objects >= foreign.lines
        layers = project_parts(foreign.parts, geometry)
        drawn = layers.plastic + layers.radiopaque + layers.metal
        assert (drawn.max() > 0) == bool(foreign.parts)
    assert set(counts) == set(range(MOST_DISTRACTOR_LINES + 1))


def test_the_same_seed_places_the_same_devices() -> None:
    first, second = (draw_devices(np.random.default_rng(5), _body(5), Family.FROZEN) for _ in range(2))
    assert [device.kind for device in first] == [device.kind for device in second]
    assert all(np.array_equal(a.course, b.course) for a, b in zip(first, second, strict=True))


def test_no_make_of_the_frozen_family_is_ever_trained_on() -> None:
    for makes in (ENDOTRACHEAL, GASTRIC, PLEURAL, VENOUS):
        assert not set(makes[Family.TRAINING]) & set(makes[Family.FROZEN])


def test_childrens_devices_are_smaller() -> None:
    for kind in RULED:
        small, large = (np.mean([each.radius_mm for each in _placed(kind, 10, age)]) for age in (2.0, 60.0))
        assert small < 0.85 * large, kind
