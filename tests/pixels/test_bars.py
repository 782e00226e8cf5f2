from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from workers.bars import Area, area_without_bars

_SIDES = st.integers(0, 60)
_GREYS = st.sampled_from([0, 700, 4095])


@settings(max_examples=60, deadline=None)
@given(_SIDES, _SIDES, _SIDES, _SIDES, _GREYS, _GREYS)
def test_bars_are_cut_to_the_pixel_whatever_their_greys(
    left: int, top: int, right: int, bottom: int, across: int, down: int
) -> None:
    film = np.random.default_rng(0).integers(100, 4000, (150, 110), dtype=np.uint16)
    barred = np.pad(film, ((0, 0), (left, right)), constant_values=across)
    barred = np.pad(barred, ((top, bottom), (0, 0)), constant_values=down)
    assert area_without_bars(barred) == Area(left, top, left + 110, top + 150)


def test_bars_wider_than_the_film_are_cut() -> None:
    barred = np.zeros((400, 400), np.uint8)
    barred[150:250, 160:230] = np.random.default_rng(0).integers(1, 200, (100, 70))
    assert area_without_bars(barred) == Area(160, 150, 230, 250)


def test_bars_are_cut_through_lossy_jpeg_but_for_the_rest_of_a_block() -> None:
    film = np.round(gaussian_filter(np.random.default_rng(0).random((512, 512)), 2) * 255).astype(np.uint8)
    stream = BytesIO()
    Image.fromarray(np.pad(film, ((43, 51), (37, 29)))).save(stream, "JPEG", quality=85)
    area = area_without_bars(np.asarray(Image.open(stream)))
    rows, columns = film.shape
    assert 0 <= 37 - area.left < 8
    assert 0 <= 43 - area.top < 8
    assert 0 <= area.right - 37 - columns < 8
    assert 0 <= area.bottom - 43 - rows < 8


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (40, 60)])
def test_an_image_that_is_all_bar_is_left_whole(shape: tuple[int, int]) -> None:
    area = area_without_bars(np.full(shape, 300, np.uint16))
    assert (area.rows, area.columns) == shape


def test_air_that_fades_into_black_is_no_bar() -> None:
    y, x = np.ogrid[:300, :300]
    shoulders = np.clip(20 + y / 2 - np.abs(x - 150), 0, 100)
    area = area_without_bars(shoulders.astype(np.uint16))
    assert area == Area(0, 0, 300, 300)


def test_one_pixel_of_something_in_the_outermost_row_keeps_it() -> None:
    film = np.zeros((300, 300), np.uint16)
    film[60:200, 60:200] = 800
    film[0, 5] = 1  # the end of a line
    assert area_without_bars(film) == Area(0, 0, 200, 200)
