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
    crop=384,
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


@given(_POINTS)
def test_the_crop_shows_the_carina_and_most_of_it_what_lies_above(carina: NDArray[np.float64]) -> None:
    crop = Crop.above(carina, HEAD)
    assert 0 <= crop.left <= 1024 - 384 and 0 <= crop.top <= 1024 - 384
    x, y = crop.from_detail(carina[None])[0]
    assert -0.5 <= x <= 384.5 and -0.5 <= y <= 384.5
    if 320 < carina[1] < 940 and 200 < carina[0] < 824:
        # A film of 400 mm: 12 cm above it, 3 cm below.
        assert x == pytest.approx(192, abs=1) and y == pytest.approx(0.8 * 384, abs=1)


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
@pytest.mark.parametrize("tip", [(120.0, 130.0), None])
def test_the_second_look_is_directed_above_the_carina_wherever_the_first_one_sees_a_tip(
    fit: Fit, tip: tuple[float, float] | None
) -> None:
    bundle = manifest()
    bundle = bundle.model_copy(update={"preprocessing": bundle.preprocessing.model_copy(update={"fit": fit})})
    detail = detail_of(300, 260, Area(0, 10, 240, 300), bundle)
    first = first_placement(bundle, detail.placement)
    carina = np.array([128.0, 150.0])
    dense = np.full((len(bundle.channels), 16, 16), -8.0, np.float32)
    dense[bundle.channels.index(Landmark.CARINA)] = heat(*first.to_model(carina[None])[0])
    if tip is not None:
        dense[bundle.channels.index(Landmark.ENDOTRACHEAL_TUBE_TIP)] = heat(*first.to_model(np.array([tip]))[0])
    crop = crop_for(dense, bundle, detail.placement)
    assert crop is not None
    seen = detail.placement.to_image(crop.to_detail(np.array([[crop.side / 2, 0.8 * crop.side]])))[0]
    # Two cells of 4 model pixels at most.
    assert np.abs(seen - carina).max() < 8 * 300 / 64


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
