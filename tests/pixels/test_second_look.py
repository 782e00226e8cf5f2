"""Where the second look is directed, and that what it sees lies in the image exactly where it says."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.bundle import Manifest, SecondLookHead
from schemas.codes import Landmark, Segment
from schemas.errors import EngineError
from schemas.preprocessing import Fit
from tests.support.bundles import with_second_look
from tests.support.tiny import tiny_manifest
from workers.bars import Area
from workers.placement import Placement
from workers.second_look import Crop, Detail, Looked, crop_for, detail_preprocessing, first_placement, look_closer

#: As in the shipped bundle: 400 mm of a film in 1024 pixels.
HEAD = SecondLookHead(
    file="heads/second_look.safetensors",
    detail_size=1024,
    crop=320,
    stride=4,
    channels=[Segment.ENDOTRACHEAL_TUBE, Landmark.ENDOTRACHEAL_TUBE_TIP, Landmark.CARINA],
)
_SHARES = st.tuples(st.floats(0, 1), st.floats(0, 1))
_POINTS = st.tuples(st.floats(0, 1024), st.floats(0, 1024)).map(np.array)


def manifest(**changes: object) -> Manifest:
    return with_second_look(tiny_manifest()).model_copy(update=changes)


def heat(x: float, y: float) -> NDArray[np.float32]:
    """Logits [16, 16] at stride 4 with a narrow peak at a point."""
    rows, columns = np.indices((16, 16))
    squared = ((columns + 0.5) * 4 - x) ** 2 + ((rows + 0.5) * 4 - y) ** 2
    return (6 - 12 * (1 - np.exp(-squared / (2 * 4.8**2)))).astype(np.float32)


def detail_of(rows: int, columns: int, area: Area | None = None, bundle: Manifest | None = None) -> Detail:
    preprocessing = detail_preprocessing(bundle or manifest())
    assert preprocessing is not None
    image = np.random.default_rng(0).random((rows, columns)).astype(np.float32)
    return Detail.of(image, Placement.of(rows, columns, preprocessing, area))


@given(st.integers(200, 4000), st.integers(200, 4000), _SHARES, _SHARES)
@example(4000, 200, (0.0, 0.0), (1.0, 1.0))
def test_a_point_of_a_crop_comes_back_to_the_image_exactly(
    rows: int, columns: int, centre: tuple[float, float], point: tuple[float, float]
) -> None:
    preprocessing = detail_preprocessing(manifest())
    assert preprocessing is not None
    detail = Placement.of(rows, columns, preprocessing, Area(10, 20, columns - 30, rows - 40))
    image = np.array([centre, point]) * [columns, rows]
    head = manifest().second_look
    assert head is not None
    crop = Crop.centred(detail.to_model(image)[0], head)
    seen = crop.from_detail(detail.to_model(image))
    np.testing.assert_allclose(detail.to_image(crop.to_detail(seen)), image, atol=1e-6)


@given(_POINTS, _POINTS)
def test_tip_and_carina_are_both_in_the_crop_or_it_is_not_made(
    tip: NDArray[np.float64], carina: NDArray[np.float64]
) -> None:
    crop = Crop.around(tip, carina, HEAD)
    if np.abs(tip - carina).max() > 0.9 * HEAD.crop:
        assert crop is None
        return
    assert crop is not None and 0 <= crop.left <= 1024 - 320 and 0 <= crop.top <= 1024 - 320
    points = crop.from_detail(np.array([tip, carina]))
    assert points.min() >= -0.5 and points.max() <= HEAD.crop + 0.5


def test_where_one_of_them_is_missing_the_crop_has_room_for_it() -> None:
    point = np.array([500.0, 500.0])
    below, above = Crop.around(point, None, HEAD), Crop.around(None, point, HEAD)
    # 5 cm of 0.4 mm below a tip, and as much above a carina.
    assert below is not None and above is not None
    assert below.top < 500 < 500 + 125 < below.top + below.side - 20
    assert above.top + 20 < 500 - 125 < 500 < above.top + above.side
    assert Crop.around(None, None, HEAD) is None


def test_a_crop_shows_the_films_own_pixels_where_it_says() -> None:
    film = np.zeros((400, 300), np.float32)
    film[101:103, 201:203] = 1
    preprocessing = detail_preprocessing(manifest())
    assert preprocessing is not None
    placement = Placement.of(400, 300, preprocessing)
    detail = Detail.of(film, placement)
    head = manifest().second_look
    assert head is not None
    crop = Crop.centred(placement.to_model(np.array([[190.0, 110.0]]))[0], head)
    rows, columns = np.indices((crop.side, crop.side)) + 0.5
    seen = crop.cut(detail.pixels).astype(np.float64)
    centre = np.array([[(seen * columns).sum(), (seen * rows).sum()]]) / seen.sum()
    np.testing.assert_allclose(placement.to_image(crop.to_detail(centre)), [[202, 102]], atol=0.2)


@pytest.mark.parametrize("fit", Fit)
def test_the_second_look_is_directed_between_what_the_first_one_located(fit: Fit) -> None:
    bundle = manifest()
    bundle = bundle.model_copy(update={"preprocessing": bundle.preprocessing.model_copy(update={"fit": fit})})
    detail = detail_of(300, 260, Area(0, 10, 240, 300), bundle)
    first = first_placement(bundle, detail.placement)
    points = np.array([[120.0, 130.0], [128.0, 150.0]])
    (tip, carina) = first.to_model(points)
    dense = np.full((len(bundle.channels), 16, 16), -8.0, np.float32)
    dense[bundle.channels.index(Landmark.ENDOTRACHEAL_TUBE_TIP)] = heat(tip[0], tip[1])
    dense[bundle.channels.index(Landmark.CARINA)] = heat(carina[0], carina[1])
    crop = crop_for(dense, bundle, detail.placement)
    assert crop is not None
    middle = detail.placement.to_image(crop.to_detail(np.array([[crop.side / 2, crop.side / 2]])))[0]
    # Two cells of 4 model pixels at most.
    assert np.abs(middle - points.mean(axis=0)).max() < 8 * 300 / 64


def test_nothing_that_is_beside_the_image_or_no_number_is_looked_at() -> None:
    bundle = manifest()
    tall = detail_of(300, 100, bundle=bundle)
    dense = np.full((len(bundle.channels), 16, 16), -8.0, np.float32)
    dense[bundle.channels.index(Landmark.CARINA)] = heat(4, 30)
    assert crop_for(dense, bundle, tall.placement) is None
    assert crop_for(dense, bundle, detail_of(300, 300, bundle=bundle).placement) is not None
    dense[:] = np.nan
    assert crop_for(dense, bundle, tall.placement) is None


def test_only_images_with_something_to_look_at_are_computed() -> None:
    bundle = manifest()
    details = [detail_of(200, 200, bundle=bundle)] * 3
    dense = np.full((3, len(bundle.channels), 16, 16), -8.0, np.float32)
    dense[1, bundle.channels.index(Landmark.CARINA)] = heat(30, 30)
    computed = []

    def compute(crops: NDArray[np.float32]) -> NDArray[np.float32]:
        computed.append(crops)
        return np.full((len(crops), 3, 16, 16), 2.5, np.float32)

    looked = look_closer(dense, details, bundle, compute)
    assert [each is None for each in looked] == [True, False, True]
    (crops,) = computed
    assert looked[1] is not None
    np.testing.assert_allclose(crops[0] * 255, looked[1].crop.cut(details[1].pixels), atol=1e-3)
    assert look_closer(dense[:1], details[:1], bundle, compute) == [None] and len(computed) == 1


def test_a_logit_that_float16_cannot_hold_fails_the_image_and_not_the_batch() -> None:
    with pytest.raises(EngineError, match="NaN or infinity"):
        Looked(Crop(0, 0, 64), np.full((3, 16, 16), 1e6, np.float32)).closer()
