"""Evidence maps lie where the attention was, glow by how focused it was, and read in every kind of colour vision."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.preprocessing import Fit
from tests.pictures.synthetic import GRID, PREPROCESSING, SIZE, even, hot_patch
from workers.evidence import SCALE, palette, peak, share_on_image, strength
from workers.placement import Placement

_PATCH = SIZE / GRID
_LENGTHS = st.integers(30, 4000)

#: Linear RGB as seen with a complete deficiency (Machado, Oliveira and Fernandes 2009, severity 1.0).
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def size_of(placement: Placement) -> tuple[int, int]:
    """Width and height of a map, with a longest side of 256."""
    factor = 256 / max(placement.rows, placement.columns)
    return max(1, round(placement.columns * factor)), max(1, round(placement.rows * factor))


@settings(deadline=None)
@given(_LENGTHS, _LENGTHS, st.integers(0, GRID - 1), st.integers(0, GRID - 1))
def test_a_hot_patch_glows_at_its_place_on_the_image(rows: int, columns: int, row: int, column: int) -> None:
    placement = Placement.of(rows, columns, PREPROCESSING)
    centre = np.array([[(column + 0.5) * _PATCH, (row + 0.5) * _PATCH]])
    # All of the patch lies on the image.
    assume(
        placement.left <= centre[0, 0] - _PATCH / 2 and centre[0, 0] + _PATCH / 2 <= placement.left + placement.width
    )
    assume(placement.top <= centre[0, 1] - _PATCH / 2 and centre[0, 1] + _PATCH / 2 <= placement.top + placement.height)
    width, height = size_of(placement)
    attention = hot_patch(row, column)
    places = strength(attention, placement, width, height)
    assert places.shape == (height, width)
    y, x = np.nonzero(places == places.max())
    found = np.array([x.mean() + 0.5, y.mean() + 0.5]) * [columns / width, rows / height]
    expected = placement.to_image(centre)[0]
    # A pixel of the map; a patch at the edge of the input glows up to that edge.
    outermost = {row, column} & {0, GRID - 1}
    tolerance = (0.6 / GRID if outermost else 1.5 / 256) * max(rows, columns)
    assert np.abs(found - expected).max() < tolerance
    highest = peak(attention, placement)
    assert (highest.at.x, highest.at.y) == pytest.approx(tuple(expected))
    assert highest.height == pytest.approx(100, rel=1e-3)


@pytest.mark.parametrize(
    ("rows", "columns"), [(2048, 1706), (1706, 2048), (3000, 40), (40, 3000), (1, 5000), (5000, 1)]
)
def test_the_peak_is_on_the_image_however_little_of_the_input_that_is(rows: int, columns: int) -> None:
    placement = Placement.of(rows, columns, PREPROCESSING)
    generator = np.random.default_rng(0)
    attention = generator.dirichlet(np.ones(GRID**2)).reshape(GRID, GRID).astype(np.float16)
    width, height = size_of(placement)
    assert strength(attention, placement, width, height).shape == (height, width)
    at = peak(attention, placement).at
    assert 0 <= at.x <= columns and 0 <= at.y <= rows
    assert 0 < share_on_image(attention, placement) < 1


def test_the_share_on_the_image_leaves_out_the_bars() -> None:
    assert share_on_image(even(), Placement.of(100, 100, PREPROCESSING)) == pytest.approx(1)
    assert share_on_image(even(), Placement.of(100, 50, PREPROCESSING)) == pytest.approx(0.5)
    beside = Placement.of(1000, 250, PREPROCESSING)
    assert share_on_image(hot_patch(12, 0, 10_000), beside) < 0.05
    assert peak(hot_patch(12, 0, 10_000), beside).height == pytest.approx(1, abs=0.01)


def test_where_a_crop_shows_the_model_nothing_there_is_no_evidence() -> None:
    cropping = PREPROCESSING.model_copy(update={"fit": Fit.CENTRE_CROP})
    placement = Placement.of(512, 256, cropping)
    attention = hot_patch(0, 12)  # at the upper edge of what is seen: a quarter down the image
    places = strength(attention, placement, 128, 256)
    assert places.shape == (256, 128)
    assert places[:64].max() == places[192:].max() == 0
    assert np.unravel_index(places.argmax(), places.shape)[0] in range(64, 70)
    highest = peak(attention, placement)
    assert (highest.at.x, highest.at.y) == pytest.approx((12.5 * 256 / GRID, 128 + 0.5 * 256 / GRID))
    assert share_on_image(attention, placement) == pytest.approx(1)


def test_attention_without_focus_is_not_shown_at_all() -> None:
    placement = Placement.of(500, 400, PREPROCESSING)
    assert strength(even(), placement, 205, 256).max() == 0
    assert strength(hot_patch(12, 12, SCALE.lowest), placement, 205, 256).max() <= 1
    opacities = palette()[1]
    assert opacities[0] == 0


def test_more_focus_glows_more_on_one_scale_for_all_maps() -> None:
    placement = Placement.of(500, 400, PREPROCESSING)
    heights = [2.5, 4.0, 8.0, 16.0, 32.0, 64.0]
    brightest = [int(strength(hot_patch(12, 12, height), placement, 205, 256).max()) for height in heights]
    assert brightest == sorted(set(brightest))
    assert int(strength(hot_patch(12, 12, 500), placement, 205, 256).max()) >= 253


def test_equal_places_have_equal_colours_whatever_the_grid() -> None:
    coarse, fine = np.full((8, 8), 1 / 64), np.full((32, 32), 1 / 1024)
    coarse[4, 4] = 10 / 64
    fine[16:20, 16:20] = 10 / 1024
    placement = Placement.of(256, 256, PREPROCESSING.model_copy(update={"size": 256}))
    first, second = (strength(each, placement, 256, 256) for each in (coarse, fine))
    assert abs(int(first.max()) - int(second[144, 144])) <= 8


@pytest.mark.parametrize("vision", VISIONS)
def test_the_colours_are_in_order_and_never_grey_for_anybody(vision: str) -> None:
    colours, opacities = palette()
    seen = lab(linear(colours) @ VISIONS[vision].T)
    assert (np.diff(seen[:, 0]) > -0.2).all()
    lightness = seen[::32, 0]
    assert (np.diff(lightness) > 3).all()
    assert np.hypot(seen[:, 1], seen[:, 2]).min() > 20
    assert (np.diff(opacities.astype(int)) >= 0).all()
    # The anatomy below stays visible.
    assert opacities.max() <= 0.6 * 255


def linear(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """sRGB uint8 [N, 3] as linear RGB 0..1 (IEC 61966-2-1)."""
    value = colours / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear RGB [N, 3] as CIELab under D65."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(rgb, 0, 1) @ matrix.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
