"""What is said of a tube that was looked at twice: the closer look's points, unless the looks contradict each other."""

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.codes import Device, DistanceBasis, Landmark, Segment, TubePosition
from schemas.errors import BundleError
from schemas.result import Point, TubeResult
from tests.pixels.test_second_look import detail_of, heat, manifest
from tests.support.tiny import tiny_manifest
from workers.bars import Area
from workers.interpret import interpret
from workers.output import Closer, ModelOutput
from workers.second_look import Crop, first_placement
from workers.spacing import Spacing
from workers.two_looks import CloserTube, TubePoints, read_closer, refined


def closer_with(crop: Crop, tip: NDArray[np.float64] | None, carina: NDArray[np.float64] | None) -> Closer:
    """A second look that sees these points of the detail image, and a tube down to the tip."""
    maps = np.full((3, 16, 16), -8.0, np.float32)
    if tip is not None:
        x, y = crop.from_detail(tip)
        maps[0, : round(y / 4), round(x / 4 - 1) : round(x / 4 + 1)] = 4
        maps[1] = heat(x, y)
    if carina is not None:
        x, y = crop.from_detail(carina)
        maps[2] = heat(x, y)
    return Closer(crop.left, crop.top, maps.astype(np.float16))


def test_what_the_second_look_located_is_told_in_points_of_the_image() -> None:
    bundle = manifest()
    detail = detail_of(600, 480, Area(0, 0, 480, 580), bundle)
    points = np.array([[240.0, 200.0], [255.0, 300.0]])
    tip, carina = detail.placement.to_model(points)
    head = bundle.second_look
    assert head is not None
    crop = Crop.above(carina, head)
    found = read_closer(closer_with(crop, tip, carina), bundle, first_placement(bundle, detail.placement))
    for point, expected in zip((found.points.tip, found.points.carina), points, strict=True):
        assert point is not None
        # A detail pixel is 580 / 192 pixels of the image.
        np.testing.assert_allclose([point.x, point.y], expected, atol=580 / 192)
    assert found.points.course[-1] == found.points.tip
    assert found.tolerance == pytest.approx(0.133 * 64 * 580 / 192)


def test_a_second_look_of_another_shape_than_the_manifest_says_is_refused() -> None:
    placement = first_placement(manifest(), detail_of(300, 300).placement)
    with pytest.raises(BundleError, match="second look gives"):
        read_closer(Closer(0, 0, np.zeros((3, 8, 8), np.float16)), manifest(), placement)
    with pytest.raises(BundleError, match="has none"):
        read_closer(Closer(0, 0, np.zeros((3, 16, 16), np.float16)), tiny_manifest(), placement)


FIRST = TubePoints(Point(x=100, y=200), Point(x=110, y=320), [Point(x=95, y=20), Point(x=100, y=200)])


def closer_look(tip: Point | None, carina: Point | None, course: list[Point] | None = None) -> CloserTube:
    return CloserTube(
        TubePoints(tip, carina, course or []), 0.9, crop=(Point(x=0, y=50), Point(x=400, y=450)), tolerance=50
    )


def test_the_closer_look_moves_tip_carina_and_the_end_of_the_course() -> None:
    tip, carina = Point(x=104, y=215), Point(x=112, y=318)
    points = refined(FIRST, closer_look(tip, carina, [Point(x=97, y=150), tip]))
    assert (points.tip, points.carina, points.disputed) == (tip, carina, False)
    assert points.course == [Point(x=95, y=20), Point(x=97, y=150), tip]


def test_what_the_closer_look_cannot_see_stays_and_a_tip_that_it_does_not_see_is_none() -> None:
    unseen = refined(FIRST, closer_look(None, None))
    assert (unseen.tip, unseen.carina, unseen.course) == (None, FIRST.carina, FIRST.course)
    above = TubePoints(Point(x=100, y=40), FIRST.carina, FIRST.course)
    assert refined(above, closer_look(None, None)) == above
    tip = Point(x=104, y=215)
    assert refined(TubePoints(None, None, []), closer_look(tip, None)) == TubePoints(tip, None, [tip])


@pytest.mark.parametrize(
    "looked", [closer_look(Point(x=100, y=260), FIRST.carina), closer_look(FIRST.tip, Point(x=170, y=320))]
)
def test_where_the_looks_contradict_each_other_the_closer_one_counts_and_is_disputed(looked: CloserTube) -> None:
    points = refined(FIRST, looked)
    assert (points.tip, points.carina, points.disputed) == (looked.points.tip, looked.points.carina, True)


def test_a_course_that_does_not_lead_to_what_the_closer_look_sees_is_left_out() -> None:
    tip = Point(x=170, y=215)
    looked = closer_look(tip, FIRST.carina, [Point(x=168, y=150), tip])
    assert refined(FIRST, looked).course == looked.points.course


#: An image of 600 x 480 pixels of 0.7 mm; the tube's tip 50 mm above the carina.
_BUNDLE = manifest()
_DETAIL = detail_of(600, 480).placement
_PLACEMENT = first_placement(_BUNDLE, _DETAIL)
_SPACING = Spacing(0.7, 0.7, DistanceBasis.CALIBRATED)
_TIP, _CARINA = np.array([240.0, 200.0]), np.array([255.0, 200 + 50 / 0.7])


def said(first_tip: NDArray[np.float64], closer: Closer | None) -> TubeResult:
    """What is said of the endotracheal tube whose tip the first look sees there, and whose carina it sees rightly."""
    dense = np.full((len(_BUNDLE.channels), 16, 16), -8.0, np.float32)
    tip, carina = _PLACEMENT.to_model(np.array([first_tip, _CARINA]))
    column, row = (round(each / 4) for each in tip)
    dense[_BUNDLE.channels.index(Segment.ENDOTRACHEAL_TUBE), 1:row, column] = 4
    dense[_BUNDLE.channels.index(Landmark.ENDOTRACHEAL_TUBE_TIP)] = heat(tip[0], tip[1])
    dense[_BUNDLE.channels.index(Landmark.CARINA)] = heat(carina[0], carina[1])
    classes = [scored.model_copy(update={"operating_point": 0.5}) for scored in _BUNDLE.classes]
    head = _BUNDLE.classifier
    assert head is not None
    bundle = _BUNDLE.model_copy(
        update={"heads": [head.model_copy(update={"classes": classes}), *_BUNDLE.heads[1:]], "unproven": ""}
    )
    targets = [scored.target for scored in classes]
    logits = np.full(len(targets), -3, np.float32)
    logits[targets.index("endotracheal_tube.presence")] = 5
    output = ModelOutput(logits, np.zeros((0, 4, 4), np.float16), dense.astype(np.float16), closer)
    found = interpret(output, bundle, _PLACEMENT, _SPACING, age_years=50)
    return next(tube for tube in found.tubes if tube.device is Device.ENDOTRACHEAL_TUBE)


def look_at(tip: NDArray[np.float64], carina: NDArray[np.float64]) -> Closer:
    points = _DETAIL.to_model(np.array([tip, carina]))
    assert _BUNDLE.second_look is not None
    crop = Crop.above(points[1], _BUNDLE.second_look)
    return closer_with(crop, points[0], points[1])


def test_a_result_tells_the_tip_and_the_distance_of_the_closer_look() -> None:
    aside = _TIP + np.array([6, 12])
    coarse, fine = said(aside, None), said(aside, look_at(_TIP, _CARINA))
    errors = [float(np.hypot(*(_TIP - [tube.tip.x, tube.tip.y]))) for tube in (coarse, fine) if tube.tip is not None]
    assert errors[0] > 8 and errors[1] < 2
    assert fine.tip_to_carina is not None and fine.tip_to_carina.millimetres == pytest.approx(50, abs=2)
    assert fine.position is TubePosition.NORMAL and fine.course[-1] == fine.tip
    heights = [point.y for point in fine.course]
    assert heights == sorted(heights) and heights[0] < 60, "the course still begins where the first look saw it begin"


def test_a_tube_whose_tip_the_looks_see_in_different_places_is_not_called_normal() -> None:
    # They may differ by 0.16 of the crop, 32 pixels of this image.
    disputed = said(_TIP + np.array([40, -20]), look_at(_TIP, _CARINA))
    assert disputed.position is TubePosition.BORDERLINE
    assert "closer look" in disputed.position_reason
    assert disputed.tip is not None and disputed.tip.x < 250, "the closer look's"
