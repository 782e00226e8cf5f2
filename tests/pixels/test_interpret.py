import datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.bundle import (
    Acceptance,
    Architecture,
    Calibration,
    DenseHead,
    GloriHead,
    Manifest,
    Population,
    ScoredClass,
)
from schemas.codes import Device, DistanceBasis, Finding, Landmark, Segment, TubePosition
from schemas.errors import BundleError
from schemas.preprocessing import Fit, Preprocessing
from workers.bars import Area
from workers.interpret import Interpretation, interpret
from workers.output import ModelOutput
from workers.placement import Placement
from workers.spacing import NO_SPACING, Spacing

_SIZE, _STRIDE = 512, 4
_CHANNELS: list[Segment | Landmark] = [*Segment, *Landmark]
_SHAPES = [(2500, 2048), (2048, 2500), (1760, 1760), (440, 440), (700, 300)]
_CALIBRATED = Spacing(0.14, 0.14, DistanceBasis.CALIBRATED)

MANIFEST = Manifest(
    name="synthetic",
    version="1",
    created=datetime.date(2025, 1, 1),
    architecture=Architecture(timm_name="none"),
    preprocessing=Preprocessing(profile="letterbox", size=_SIZE, mean=(0.5,), std=(0.25,)),
    heads=[
        GloriHead(
            file="heads/glori.safetensors",
            classes=[
                ScoredClass(target=Finding.PNEUMOTHORAX, operating_point=0.3),
                ScoredClass(target="endotracheal_tube.presence", operating_point=0.5),
                ScoredClass(target="endotracheal_tube.malposition", operating_point=0.6),
            ],
        ),
        DenseHead(file="heads/dense.safetensors", stride=_STRIDE, channels=_CHANNELS),
    ],
    population=Population(),
    training={},
    licence="none",
)

Points = NDArray[np.float64]


class _Picture:
    """A model output with things drawn into its dense maps at image coordinates."""

    def __init__(self, rows: int, columns: int, placement: Placement | None = None) -> None:
        self.placement = placement or Placement.of(rows, columns, MANIFEST.preprocessing)
        cells = _SIZE // _STRIDE
        self.dense = np.full((len(_CHANNELS), cells, cells), -8.0)
        centres = (np.arange(cells) + 0.5) * _STRIDE
        self.x, self.y = np.meshgrid(centres, centres)
        self.logits = np.array([-2.0, 3.0, -3.0])
        self.age_years: float | None = 60.0

    def landmark(self, channel: Landmark, point: Points, height: float = 0.95, sigma: float = 7.0) -> None:
        x, y = self.placement.to_model(point[None])[0]
        heat = height * np.exp(-0.5 * ((self.x - x) ** 2 + (self.y - y) ** 2) / sigma**2)
        drawn = np.log(np.maximum(heat, 1e-4) / (1 - heat))
        index = _CHANNELS.index(channel)
        self.dense[index] = np.maximum(self.dense[index], drawn)

    def tube(self, line: Points, half_width: float = 7.0, channel: Segment = Segment.ENDOTRACHEAL_TUBE) -> None:
        model = self.placement.to_model(line)
        distance = np.full(self.x.shape, np.inf)
        for start, end in pairwise(model):
            along = end - start
            t = ((self.x - start[0]) * along[0] + (self.y - start[1]) * along[1]) / (along @ along)
            t = np.clip(t, 0, 1)
            distance = np.minimum(
                distance, np.hypot(self.x - start[0] - t * along[0], self.y - start[1] - t * along[1])
            )
        self.dense[_CHANNELS.index(channel)] = np.clip(half_width - distance, -8, 8)

    def region(self, segment: Segment, centre: Points, radius: float) -> None:
        x, y = self.placement.to_model(centre[None])[0]
        index = _CHANNELS.index(segment)
        disc = np.clip(radius - np.hypot(self.x - x, self.y - y), -8, 8)
        self.dense[index] = np.maximum(self.dense[index], disc)

    def interpreted(self, spacing: Spacing = _CALIBRATED) -> Interpretation:
        output = ModelOutput(
            self.logits.astype(np.float32),
            np.full((3, 2, 2), 0.25, np.float16),
            self.dense.astype(np.float16),
        )
        manifest = MANIFEST.model_copy(update={"preprocessing": self.placement.preprocessing})
        return interpret(output, manifest, self.placement, spacing, age_years=self.age_years)


def _line(rows: int, columns: int) -> tuple[Points, Points]:
    """A tube from the upper border that bends to its tip, and a carina below, in image coordinates."""
    line = np.array([[0.50, 0.05], [0.505, 0.25], [0.52, 0.36]]) * [columns, rows]
    carina = np.array([0.53, 0.45]) * [columns, rows]
    return line, carina


def _distance_to_line(point: Points, line: Points) -> float:
    best = np.inf
    for start, end in pairwise(line):
        along = end - start
        t = np.clip((point - start) @ along / (along @ along), 0, 1)
        best = min(best, float(np.hypot(*(point - start - t * along))))
    return best


@pytest.mark.parametrize(("rows", "columns"), _SHAPES)
def test_tip_carina_and_course_are_found_within_one_model_pixel(rows: int, columns: int) -> None:
    picture = _Picture(rows, columns)
    line, carina = _line(rows, columns)
    picture.tube(line)
    picture.landmark(Landmark.ENDOTRACHEAL_TUBE_TIP, line[-1])
    picture.landmark(Landmark.CARINA, carina)
    (tube,) = picture.interpreted().tubes

    model_pixel = max(rows, columns) / _SIZE
    assert tube.present
    assert tube.tip is not None
    assert tube.carina is not None
    assert np.hypot(tube.tip.x - line[-1][0], tube.tip.y - line[-1][1]) < model_pixel
    assert np.hypot(tube.carina.x - carina[0], tube.carina.y - carina[1]) < model_pixel

    course = np.array([[point.x, point.y] for point in tube.course])
    assert 2 <= len(course) <= 64
    assert (np.diff(course[:, 1]) > 0).all(), "ordered from the upper end to the tip"
    assert (course[-1] == [tube.tip.x, tube.tip.y]).all()
    # The drawn mask is round at its upper end and there reaches half a tube beyond the line.
    inner = course[course[:, 1] > line[0][1]]
    assert max(_distance_to_line(point, line) for point in inner) < model_pixel
    assert course[0][1] < line[0][1] + 0.02 * rows

    assert tube.tip_to_carina is not None
    assert tube.tip_to_carina.pixels == pytest.approx(carina[1] - line[-1][1], abs=2 * model_pixel)
    assert tube.tip_to_carina.millimetres == pytest.approx(tube.tip_to_carina.pixels * 0.14)


def _placed(rows: int, columns: int, fit: Fit, area: Area | None = None) -> Placement:
    return Placement.of(rows, columns, MANIFEST.preprocessing.model_copy(update={"fit": fit}), area)


@pytest.mark.parametrize(
    "placement",
    [
        _placed(1000, 800, Fit.CENTRE_CROP),
        _placed(800, 1000, Fit.CENTRE_CROP),
        _placed(1000, 600, Fit.SQUASH),
        _placed(1000, 800, Fit.LETTERBOX, Area(60, 120, 800, 990)),
        _placed(1000, 800, Fit.CENTRE_CROP, Area(60, 20, 800, 990)),
    ],
    ids=["crop", "crop across", "squash", "bars", "crop within bars"],
)
def test_points_are_the_images_own_however_it_was_placed(placement: Placement) -> None:
    picture = _Picture(placement.rows, placement.columns, placement)
    line, carina = _line(placement.rows, placement.columns)
    picture.tube(line)
    picture.landmark(Landmark.ENDOTRACHEAL_TUBE_TIP, line[-1])
    picture.landmark(Landmark.CARINA, carina)
    (tube,) = picture.interpreted().tubes
    model_pixel = max(placement.area.rows / placement.height, placement.area.columns / placement.width)
    assert tube.tip is not None
    assert tube.carina is not None
    assert np.hypot(tube.tip.x - line[-1][0], tube.tip.y - line[-1][1]) < model_pixel
    assert np.hypot(tube.carina.x - carina[0], tube.carina.y - carina[1]) < model_pixel
    course = np.array([[point.x, point.y] for point in tube.course])
    assert (course >= placement.seen[0]).all()
    assert (course <= placement.seen[1]).all()


@pytest.mark.parametrize(
    ("placement", "seen"),
    [
        (_placed(1000, 800, Fit.CENTRE_CROP), (slice(100, 900), slice(0, 800))),
        (_placed(1000, 800, Fit.LETTERBOX, Area(60, 120, 800, 990)), (slice(120, 990), slice(60, 800))),
    ],
    ids=["crop", "bars"],
)
def test_nothing_is_outlined_or_located_where_the_model_saw_nothing(
    placement: Placement, seen: tuple[slice, slice]
) -> None:
    picture = _Picture(1000, 800, placement)
    picture.dense[_CHANNELS.index(Segment.HEART)] = 8.0
    # Beside the image and at its very edge.
    picture.landmark(Landmark.CARINA, np.array([400.0, seen[0].stop + 5.0]), sigma=4.0)
    found = picture.interpreted()
    heart = found.masks[Segment.HEART]
    assert heart[seen].all()
    assert heart.sum() == heart[seen].size
    carina = found.tubes[0].carina
    assert carina is None or carina.y <= seen[0].stop


def _tube_at(distance_mm: float, spacing: Spacing = _CALIBRATED) -> _Picture:
    picture = _Picture(2500, 2048)
    tip = np.array([1024.0, 900.0])
    picture.tube(np.array([[1024.0, 50.0], tip]))
    picture.landmark(Landmark.ENDOTRACHEAL_TUBE_TIP, tip)
    picture.landmark(Landmark.CARINA, tip + np.array([20, distance_mm / spacing.row_mm]))
    return picture


@pytest.mark.parametrize(
    ("distance_mm", "position"),
    [
        (50, TubePosition.NORMAL),
        (24, TubePosition.BORDERLINE),
        (5, TubePosition.ABNORMAL),
        (-20, TubePosition.ABNORMAL),
    ],
)
def test_the_distance_and_the_class_head_decide_the_position_together(
    distance_mm: float, position: TubePosition
) -> None:
    picture = _tube_at(distance_mm)
    picture.logits[2] = 2.0 if position is TubePosition.ABNORMAL else -3.0
    (tube,) = picture.interpreted().tubes
    assert tube.position is position
    assert "carina" in tube.position_reason and "malposition score" in tube.position_reason
    # Where they disagree it is borderline, whatever either says; in a bronchus it is abnormal.
    picture.logits[2] *= -1
    (doubted,) = picture.interpreted().tubes
    assert doubted.position is (TubePosition.ABNORMAL if distance_mm < 0 else TubePosition.BORDERLINE)


def test_of_an_unknown_magnification_the_distance_is_a_range_that_the_position_has_to_hold_for() -> None:
    detector = Spacing(0.14, 0.14, DistanceBasis.DETECTOR_PLANE)
    (tube,) = _tube_at(60, detector).interpreted(detector).tubes
    assert tube.tip_to_carina is not None
    assert tube.tip_to_carina.millimetres == pytest.approx(60, abs=1)
    assert tube.tip_to_carina.lowest_millimetres == pytest.approx(50, abs=1)
    assert tube.tip_to_carina.highest_millimetres == pytest.approx(60, abs=1)
    assert tube.position is TubePosition.NORMAL
    (between,) = _tube_at(33, detector).interpreted(detector).tubes
    assert between.position is TubePosition.BORDERLINE
    (calibrated,) = _tube_at(33).interpreted().tubes
    assert calibrated.position is TubePosition.NORMAL
    assert calibrated.tip_to_carina is not None
    assert calibrated.tip_to_carina.lowest_millimetres is None


def test_a_childs_tube_is_held_against_the_limits_of_its_age() -> None:
    picture = _tube_at(17)
    (grown_up,) = picture.interpreted().tubes
    picture.age_years = 0.25
    (infant,) = picture.interpreted().tubes
    assert (grown_up.position, infant.position) == (TubePosition.BORDERLINE, TubePosition.NORMAL)
    assert "3 months" in infant.position_reason


def test_without_spacing_there_are_no_millimetres_and_the_class_head_decides() -> None:
    picture = _tube_at(50)
    (tube,) = picture.interpreted(NO_SPACING).tubes
    assert tube.tip_to_carina is not None
    assert tube.tip_to_carina.millimetres is None
    assert tube.position is TubePosition.NORMAL
    picture.logits[2] = 2.0
    (tube,) = picture.interpreted(NO_SPACING).tubes
    assert tube.position is TubePosition.ABNORMAL


@pytest.mark.parametrize("channel", [Landmark.ENDOTRACHEAL_TUBE_TIP, Landmark.CARINA])
def test_a_weak_landmark_makes_the_tube_incompletely_imaged(channel: Landmark) -> None:
    picture = _tube_at(50)
    picture.dense[_CHANNELS.index(channel)] = -3.0
    (tube,) = picture.interpreted().tubes
    assert tube.position is TubePosition.INCOMPLETELY_IMAGED
    assert tube.tip_to_carina is None
    assert tube.course


def test_a_gap_in_the_mask_does_not_cut_the_course() -> None:
    picture = _tube_at(50)
    picture.dense[_CHANNELS.index(Segment.ENDOTRACHEAL_TUBE), 28:33] = -8
    (tube,) = picture.interpreted().tubes
    assert tube.course[0].y < 100
    assert tube.tip is not None
    assert tube.tip.y == pytest.approx(900, abs=5)


def test_a_mask_that_runs_on_below_the_tip_does_not_move_the_tip() -> None:
    picture = _tube_at(50)
    picture.tube(np.array([[1024.0, 50.0], [1024.0, 980.0]]))
    (tube,) = picture.interpreted().tubes
    assert tube.tip is not None
    assert tube.tip.y == pytest.approx(900, abs=5)
    assert tube.course[-1].y == pytest.approx(900, abs=5)


def test_a_second_line_beside_the_tube_is_not_its_course() -> None:
    picture = _tube_at(50)
    tube_only = picture.dense[_CHANNELS.index(Segment.ENDOTRACHEAL_TUBE)].copy()
    picture.tube(np.array([[1500.0, 50.0], [1500.0, 1000.0]]))
    index = _CHANNELS.index(Segment.ENDOTRACHEAL_TUBE)
    picture.dense[index] = np.maximum(picture.dense[index], tube_only)
    (tube,) = picture.interpreted().tubes
    assert all(abs(point.x - 1024) < 5 for point in tube.course)


def test_an_absent_tube_has_no_course_tip_position_or_region() -> None:
    picture = _tube_at(50)
    picture.logits[1] = -3.0
    picture.dense[_CHANNELS.index(Segment.ENDOTRACHEAL_TUBE)] -= 9.0
    interpretation = picture.interpreted()
    (tube,) = interpretation.tubes
    assert not tube.present
    assert tube.position is None
    assert tube.tip is None
    assert tube.course == []
    assert tube.tip_to_carina is None
    assert tube.carina is not None
    assert Segment.ENDOTRACHEAL_TUBE not in interpretation.masks
    assert Segment.ENDOTRACHEAL_TUBE not in [result.segment for result in interpretation.segments]


@pytest.mark.parametrize(("rows", "columns"), _SHAPES)
def test_masks_have_the_images_shape_and_lie_where_they_were_drawn(rows: int, columns: int) -> None:
    picture = _Picture(rows, columns)
    centre = np.array([0.3 * columns, 0.5 * rows])
    picture.region(Segment.RIGHT_LUNG, centre, 50)
    speck = np.array([0.9 * columns, 0.9 * rows])
    picture.region(Segment.RIGHT_LUNG, speck, 6)
    interpretation = picture.interpreted()
    mask = interpretation.masks[Segment.RIGHT_LUNG]
    assert mask.shape == (rows, columns)
    assert mask.dtype == np.bool_
    assert not mask[int(speck[1]), int(speck[0])], "a speck is removed"
    y, x = np.nonzero(mask)
    model_pixel = max(rows, columns) / _SIZE
    assert abs(x.mean() + 0.5 - centre[0]) < model_pixel
    assert abs(y.mean() + 0.5 - centre[1]) < model_pixel
    assert mask.sum() == pytest.approx(np.pi * (50 * model_pixel) ** 2, rel=0.05)
    pixels = {result.segment: result.pixels for result in interpretation.segments}
    assert pixels[Segment.RIGHT_LUNG] == mask.sum()
    assert pixels[Segment.HEART] == 0
    assert Segment.HEART not in interpretation.masks


def test_findings_are_called_at_their_operating_point() -> None:
    picture = _Picture(500, 500)
    picture.logits[0] = 0.0
    (finding,) = picture.interpreted().findings
    assert finding.finding is Finding.PNEUMOTHORAX
    assert finding.score == pytest.approx(0.5)
    assert finding.present
    picture.logits[0] = -2.0
    assert not picture.interpreted().findings[0].present


def test_a_class_without_operating_point_is_undetermined() -> None:
    picture = _Picture(500, 500)
    picture.logits[0] = 5.0
    glori = MANIFEST.classifier
    assert glori is not None
    classes = [glori.classes[0].model_copy(update={"operating_point": None}), *glori.classes[1:]]
    manifest = MANIFEST.model_copy(update={"heads": [glori.model_copy(update={"classes": classes}), MANIFEST.dense]})
    output = ModelOutput(
        picture.logits.astype(np.float32), np.zeros((3, 1, 1), np.float16), picture.dense.astype(np.float16)
    )
    (finding,) = interpret(output, manifest, picture.placement, NO_SPACING).findings
    assert (finding.present, finding.operating_point) == (None, None)


def test_a_tube_whose_presence_has_no_operating_point_is_not_called_absent() -> None:
    picture = _tube_at(40.0)
    glori = MANIFEST.classifier
    assert glori is not None
    unknown = [each.model_copy(update={"operating_point": None}) for each in glori.classes]
    manifest = MANIFEST.model_copy(update={"heads": [glori.model_copy(update={"classes": unknown}), MANIFEST.dense]})
    output = ModelOutput(
        picture.logits.astype(np.float32), np.zeros((3, 1, 1), np.float16), picture.dense.astype(np.float16)
    )
    interpretation = interpret(output, manifest, picture.placement, NO_SPACING)
    assert interpretation.tubes == []
    assert Segment.ENDOTRACHEAL_TUBE not in interpretation.masks


def _with_classes(picture: _Picture, classes: list[ScoredClass], logits: list[float]) -> Interpretation:
    """What is said where the head has these `classes` and gives these `logits`."""
    glori = MANIFEST.classifier
    assert glori is not None
    manifest = MANIFEST.model_copy(update={"heads": [glori.model_copy(update={"classes": classes}), MANIFEST.dense]})
    output = ModelOutput(
        np.array(logits, np.float32), np.zeros((0, 1, 1), np.float16), picture.dense.astype(np.float16)
    )
    return interpret(output, manifest, picture.placement, _CALIBRATED, age_years=60)


_CATHETER = [
    ScoredClass(target="central_venous_catheter.presence", operating_point=0.5),
    ScoredClass(target="central_venous_catheter.malposition", operating_point=0.5),
]


def test_a_catheter_that_runs_across_the_film_is_followed_to_its_tip() -> None:
    picture = _Picture(2500, 2048)
    # From the left arm under the clavicle over the midline and down into the cava.
    line = np.array([[1900.0, 700.0], [1500.0, 500.0], [1100.0, 600.0], [950.0, 800.0], [950.0, 1150.0]])
    picture.tube(line, channel=Segment.CENTRAL_VENOUS_CATHETER)
    picture.landmark(Landmark.CENTRAL_VENOUS_CATHETER_TIP, line[-1])
    (catheter,) = _with_classes(picture, _CATHETER, [3.0, -3.0]).tubes
    assert (catheter.device, catheter.present, catheter.position) == (
        Device.CENTRAL_VENOUS_CATHETER,
        True,
        TubePosition.NORMAL,
    )
    assert catheter.tip is not None
    assert np.hypot(catheter.tip.x - 950, catheter.tip.y - 1150) < 5
    course = np.array([[point.x, point.y] for point in catheter.course])
    assert np.hypot(*(course[0] - line[0])) < 60
    assert (course[-1] == [catheter.tip.x, catheter.tip.y]).all()
    assert max(_distance_to_line(point, line) for point in course[1:]) < 25
    assert catheter.carina is None and catheter.tip_to_carina is None
    (bad,) = _with_classes(picture, _CATHETER, [3.0, 3.0]).tubes
    assert bad.position is TubePosition.ABNORMAL


def test_a_gap_does_not_cut_a_catheter_and_a_speck_elsewhere_is_not_its_tip() -> None:
    picture = _Picture(2500, 2048)
    picture.tube(np.array([[1900.0, 700.0], [1000.0, 700.0]]), channel=Segment.CENTRAL_VENOUS_CATHETER)
    picture.dense[_CHANNELS.index(Segment.CENTRAL_VENOUS_CATHETER), :, 70:75] = -8
    picture.landmark(Landmark.CENTRAL_VENOUS_CATHETER_TIP, np.array([1000.0, 700.0]))
    picture.landmark(Landmark.CENTRAL_VENOUS_CATHETER_TIP, np.array([400.0, 2000.0]))
    (catheter,) = _with_classes(picture, _CATHETER, [3.0, -3.0]).tubes
    assert catheter.tip is not None
    assert catheter.tip.x == pytest.approx(1000, abs=10)
    assert catheter.course[0].x > 1850


def test_without_its_tip_a_line_is_incompletely_imaged_and_still_followed() -> None:
    picture = _Picture(2500, 2048)
    picture.tube(np.array([[1024.0, 20.0], [1060.0, 2480.0]]), channel=Segment.NASOGASTRIC_TUBE)
    classes = [
        each.model_copy(update={"target": each.target.replace("central_venous_catheter", "nasogastric_tube")})
        for each in _CATHETER
    ]
    (tube,) = _with_classes(picture, classes, [3.0, -3.0]).tubes
    assert (tube.device, tube.position, tube.tip) == (
        Device.NASOGASTRIC_TUBE,
        TubePosition.INCOMPLETELY_IMAGED,
        None,
    )
    assert tube.course[0].y < 100 and tube.course[-1].y > 2400


def test_presence_is_read_from_class_and_course_together() -> None:
    picture = _Picture(2500, 2048)
    (nothing,) = _with_classes(picture, _CATHETER, [1.0, -3.0]).tubes
    assert not nothing.present, "the class alone is not sure enough of what nobody sees"
    picture.tube(np.array([[1900.0, 700.0], [1000.0, 900.0]]), channel=Segment.CENTRAL_VENOUS_CATHETER)
    (seen,) = _with_classes(picture, _CATHETER, [-1.0, -3.0]).tubes
    assert seen.present
    assert seen.course_score is not None and seen.course_score > 0.99
    assert seen.score < seen.course_score
    (denied,) = _with_classes(picture, _CATHETER, [-7.0, -3.0]).tubes
    assert not denied.present


def test_a_calibration_for_a_rare_device_changes_the_score_and_not_the_decision() -> None:
    rare = Calibration(slope=2.0, intercept=-5.0, prevalence=0.01, n=500, data="films", real=True)
    calibrated = [
        each.model_copy(update={"calibration": rare, "operating_point": 1 / (1 + np.exp(5.0))}) for each in _CATHETER
    ]
    for logit, drawn in ((1.0, True), (-1.0, True), (4.0, False), (-3.0, False)):
        picture = _Picture(2500, 2048)
        if drawn:
            picture.tube(np.array([[1900.0, 700.0], [1000.0, 900.0]]), channel=Segment.CENTRAL_VENOUS_CATHETER)
        (bare,) = _with_classes(picture, _CATHETER, [logit, -3.0]).tubes
        (scored,) = _with_classes(picture, calibrated, [logit, -3.0]).tubes
        assert scored.present == bare.present
        assert np.log(scored.score / (1 - scored.score)) == pytest.approx(
            2 * np.log(bare.score / (1 - bare.score)) - 5, abs=1e-4
        )
        assert not scored.calibrated, "nobody has calibrated both together"


_ACCEPTANCE = [
    ScoredClass(target=Acceptance.FRONTAL_CHEST, operating_point=0.5),
    ScoredClass(target=Acceptance.LATERAL, operating_point=None),
    ScoredClass(target=Acceptance.INVERTED, operating_point=None),
    ScoredClass(target=Finding.PNEUMOTHORAX, operating_point=0.5),
]


@pytest.mark.parametrize(
    ("logits", "reason"),
    [
        ([2.0, -1.0, 3.0], ""),
        ([-2.0, 1.0, -1.0], "lateral view (the model's reading)"),
        ([-2.0, -4.0, -3.0], "inverted grey scale (the model's reading)"),
    ],
)
def test_what_the_model_takes_for_no_frontal_chest_is_refused_before_any_finding(
    logits: list[float], reason: str
) -> None:
    picture = _tube_at(50)
    picture.region(Segment.HEART, np.array([1024.0, 1500.0]), 60)
    found = _with_classes(picture, _ACCEPTANCE, [*logits, 3.0])
    assert found.refused == reason
    said = [found.findings, found.segments, list(found.masks)]
    assert all(said) if not reason else not any(said)
    assert found.tubes == []


def test_a_model_without_a_threshold_for_frontal_chests_refuses_nothing() -> None:
    classes = [each.model_copy(update={"operating_point": None}) for each in _ACCEPTANCE]
    assert _with_classes(_tube_at(50), classes, [-5.0, 5.0, 0.0, 0.0]).refused == ""
    assert _with_classes(_tube_at(50), _ACCEPTANCE[1:], [5.0, 0.0, 0.0]).refused == ""


def test_an_output_of_another_bundle_is_refused() -> None:
    output = ModelOutput(np.zeros(2, np.float32), np.zeros((2, 1, 1), np.float16), np.zeros((6, 128, 128), np.float16))
    with pytest.raises(BundleError, match="2 logits"):
        interpret(output, MANIFEST, Placement.of(500, 500, MANIFEST.preprocessing), NO_SPACING)
    output = ModelOutput(np.zeros(3, np.float32), np.zeros((3, 1, 1), np.float16), np.zeros((6, 64, 64), np.float16))
    with pytest.raises(BundleError, match="64"):
        interpret(output, MANIFEST, Placement.of(500, 500, MANIFEST.preprocessing), NO_SPACING)
    with pytest.raises(BundleError, match="256"):
        interpret(
            output,
            MANIFEST,
            Placement.of(500, 500, MANIFEST.preprocessing.model_copy(update={"size": 256})),
            NO_SPACING,
        )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(20, 900), st.integers(20, 900), st.floats(0.1, 20))
def test_noise_gives_a_valid_result_inside_the_image(seed: int, rows: int, columns: int, spread: float) -> None:
    picture = _Picture(rows, columns)
    picture.dense = np.random.default_rng(seed).normal(scale=spread, size=picture.dense.shape)
    (tube,) = picture.interpreted().tubes
    points = [point for point in [tube.tip, tube.carina, *tube.course] if point is not None]
    assert len(tube.course) <= 64
    assert all(0 <= point.x <= columns and 0 <= point.y <= rows for point in points)
