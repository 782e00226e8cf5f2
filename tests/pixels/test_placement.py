"""Where a point of the image lies in a model's input and back, for every way of placing; and what the model sees."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from schemas.preprocessing import PROFILES, Fit, Intensity, Preprocessing, Resampling
from tests.conftest import REAL_DATA
from workers.bars import Area
from workers.placement import Placement

_LENGTHS = st.integers(1, 4000)
_SIZES = st.integers(32, 1024)


def profile(
    size: int,
    fit: Fit = Fit.LETTERBOX,
    resize: int | None = None,
    resampling: Resampling = Resampling.BILINEAR,
    intensity: Intensity = Intensity.WINDOW,
    cut_bars: bool = False,
) -> Preprocessing:
    return Preprocessing(
        profile="test",
        size=size,
        fit=fit,
        resize=resize,
        resampling=resampling,
        intensity=intensity,
        cut_bars=cut_bars,
        mean=(0.5,),
        std=(0.25,),
    )


@st.composite
def profiles(draw: st.DrawFn, sizes: st.SearchStrategy[int] = _SIZES) -> Preprocessing:
    size, fit = draw(sizes), draw(st.sampled_from(Fit))
    resize = draw(st.none() | st.integers(size, 2 * size)) if fit is Fit.CENTRE_CROP else None
    return profile(size, fit, resize, draw(st.sampled_from(Resampling)))


@given(_LENGTHS, _LENGTHS, profiles(), st.floats(0, 1), st.floats(0, 1))
@example(1, 4000, profile(512, Fit.CENTRE_CROP), 0.3, 0.9)
@example(4000, 1, profile(1024, Fit.SQUASH), 0.3, 0.9)
def test_to_image_undoes_to_model(rows: int, columns: int, preprocessing: Preprocessing, x: float, y: float) -> None:
    placement = Placement.of(rows, columns, preprocessing)
    points = np.array([[x * columns, y * rows], [0, 0], [columns, rows]])
    np.testing.assert_allclose(placement.to_image(placement.to_model(points)), points, atol=1e-6)
    model = np.array([[x * preprocessing.size, y * preprocessing.size]])
    np.testing.assert_allclose(placement.to_model(placement.to_image(model)), model, atol=1e-6)


@given(_LENGTHS, _LENGTHS, _SIZES)
def test_a_letterbox_shows_the_whole_image_centred(rows: int, columns: int, size: int) -> None:
    placement = Placement.of(rows, columns, profile(size))
    (left, top), (right, bottom) = placement.to_model(np.array([[0, 0], [columns, rows]])).tolist()
    assert max(right - left, bottom - top) == pytest.approx(size)
    for before, after in ((left, size - right), (top, size - bottom)):
        assert before >= 0
        assert -1e-6 <= after - before <= 1 + 1e-6
    np.testing.assert_allclose(placement.seen, [[0, 0], [columns, rows]])


@given(_LENGTHS, _LENGTHS, _SIZES, st.integers(0, 500))
def test_a_centre_crop_fills_the_input_with_the_middle_of_the_image(
    rows: int, columns: int, size: int, more: int
) -> None:
    placement = Placement.of(rows, columns, profile(size, Fit.CENTRE_CROP, size + more))
    assert placement.cells_on_image((size, size)).all()
    assert min(placement.width, placement.height) == size + more
    (left, top), (right, bottom) = placement.seen.tolist()
    # Half a pixel of the scaled image, which has whole pixels.
    half = 0.5 * np.array([columns / placement.width, rows / placement.height])
    assert abs(left + right - columns) <= 2 * half[0] + 1e-6
    assert abs(top + bottom - rows) <= 2 * half[1] + 1e-6


@given(_LENGTHS, _LENGTHS, _SIZES)
def test_squashing_shows_everything_and_fills_the_input(rows: int, columns: int, size: int) -> None:
    placement = Placement.of(rows, columns, profile(size, Fit.SQUASH))
    corners = np.array([[0, 0], [columns, rows]])
    np.testing.assert_allclose(placement.to_model(corners), [[0, 0], [size, size]], atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(200, 1500),
    st.integers(200, 1500),
    profiles(st.integers(64, 700)),
    st.floats(0.1, 0.9),
    st.floats(0.1, 0.9),
)
def test_a_blob_lands_where_to_model_says(
    rows: int, columns: int, preprocessing: Preprocessing, x: float, y: float
) -> None:
    placement = Placement.of(rows, columns, preprocessing)
    centre = np.array([[x * columns, y * rows]])
    spread = min(rows, columns) / 30
    expected = placement.to_model(centre)[0]
    # All of the blob is seen.
    reach = placement.to_model(centre + 3.5 * spread)[0] - expected
    assume((expected - reach > 0).all() and (expected + reach < preprocessing.size).all())
    row, column = np.arange(rows) + 0.5, np.arange(columns) + 0.5
    down = np.exp(-0.5 * ((row - centre[0, 1]) / spread) ** 2)
    across = np.exp(-0.5 * ((column - centre[0, 0]) / spread) ** 2)
    values = placement.apply(np.outer(down, across).astype(np.float32))
    assert values.dtype == np.float32
    assert values.shape == (preprocessing.size, preprocessing.size)
    total = values.sum()
    at = np.arange(preprocessing.size) + 0.5
    found = np.array([(values.sum(axis=0) * at).sum() / total, (values.sum(axis=1) * at).sum() / total])
    assert np.abs(found - expected).max() < 0.5


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize(("rows", "columns"), [(2500, 2048), (2048, 2500), (300, 300), (256, 1000), (97, 61)])
def test_every_pixel_of_the_input_shows_its_place_on_the_image(rows: int, columns: int, fit: Fit) -> None:
    size = 256
    placement = Placement.of(rows, columns, profile(size, fit))
    # Brightness is the place, 0..1: scaling must neither shift nor stretch it.
    x, y = (np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows
    across = placement.apply(np.tile(x, (rows, 1)).astype(np.float32))
    down = placement.apply(np.tile(y[:, None], (1, columns)).astype(np.float32))
    centres = np.arange(size) + 0.5
    image = placement.to_image(np.column_stack([centres, centres])) / [columns, rows]
    middle = size // 2
    for found, expected in ((across[middle], image[:, 0]), (down[:, middle], image[:, 1])):
        # At the image's own edge there is nothing to interpolate with.
        inner = (expected > 0.02) & (expected < 0.98)
        assert inner.any()
        assert np.abs(found - expected)[inner].max() < 0.002


@pytest.mark.parametrize(("rows", "columns"), [(2500, 2048), (2048, 2500), (300, 300), (256, 1000), (97, 61)])
@pytest.mark.parametrize("stride", [1, 4, 16])
@pytest.mark.parametrize("fit", Fit)
def test_upsample_lands_where_to_image_says(rows: int, columns: int, stride: int, fit: Fit) -> None:
    # A map that holds each cell's own x coordinate must read x = to_model(x) at every image pixel that is seen.
    size = 256
    placement = Placement.of(rows, columns, profile(size, fit))
    cells = (np.arange(size // stride, dtype=np.float32) + 0.5) * stride
    across = placement.upsample(np.tile(cells, (len(cells), 1)))
    down = placement.upsample(np.tile(cells[:, None], (1, len(cells))))
    assert across.shape == down.shape == (rows, columns)
    x = placement.to_model(np.column_stack([np.arange(columns) + 0.5, np.zeros(columns)]))[:, 0]
    y = placement.to_model(np.column_stack([np.zeros(rows), np.arange(rows) + 0.5]))[:, 1]
    # The outermost half cell has nothing to interpolate with and stays constant; where the map has more cells than
    # the image has pixels, the filter widens and so does that border.
    border = stride / 2 + 1.5 * max(1.0, placement.width / columns, placement.height / rows)
    for found, expected in ((across[rows // 2], x), (down[:, columns // 2], y)):
        np.testing.assert_array_equal(np.isfinite(found), (expected > 0) & (expected < size))
        inner = (expected > border) & (expected < size - border)
        assert np.abs(found - expected)[inner].max() < 0.05 * stride + 0.01


@settings(max_examples=40, deadline=None)
@given(
    st.integers(20, 900),
    st.integers(20, 900),
    profiles(st.sampled_from([64, 256])),
    st.integers(0, 999),
    st.floats(-2, 3),
)
def test_a_mask_is_the_threshold_of_the_enlarged_logits_and_false_where_nothing_was_seen(
    rows: int, columns: int, preprocessing: Preprocessing, seed: int, offset: float
) -> None:
    placement = Placement.of(rows, columns, preprocessing)
    cells = preprocessing.size // 4
    logits = (np.random.default_rng(seed).normal(size=(cells, cells)) - offset).astype(np.float32)
    whole = placement.upsample(logits)
    mask = placement.upsample_mask(logits)
    assert mask.dtype == np.bool_
    assert (mask == (whole > 0))[~(np.abs(whole) <= 1e-4)].all()


def test_of_a_cropped_image_the_ends_are_not_seen() -> None:
    placement = Placement.of(1000, 500, profile(128, Fit.CENTRE_CROP))
    np.testing.assert_allclose(placement.seen, [[0, 250], [500, 750]])
    mask = placement.upsample_mask(np.ones((32, 32), np.float32))
    assert mask[250:750].all()
    assert not mask[:250].any()
    assert not mask[750:].any()
    assert placement.share_on_image((8, 8)).min() == 1


def test_brightness_is_kept_and_what_is_beside_the_image_is_zero() -> None:
    values = Placement.of(1000, 500, profile(128)).apply(np.full((1000, 500), 0.7, np.float32))
    np.testing.assert_allclose(values[:, 32:96], 0.7, atol=1e-6)
    assert values[:, :32].max() == values[:, 96:].max() == 0


def test_fine_detail_is_averaged_and_makes_no_moire() -> None:
    stripes = np.zeros((2000, 2000), np.float32)
    stripes[:, ::2] = 1
    for resampling in Resampling:
        assert Placement.of(2000, 2000, profile(300, resampling=resampling)).apply(stripes)[:, 2:-2].std() < 0.02


def test_an_image_of_the_models_size_is_taken_as_it_is() -> None:
    image = np.random.default_rng(0).random((64, 48)).astype(np.float32)
    np.testing.assert_array_equal(Placement.of(64, 48, profile(64)).apply(image)[:, 8:56], image)


def test_an_image_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="wanted"):
        Placement.of(64, 48, profile(64)).apply(np.zeros((48, 64), np.float32))


@pytest.mark.parametrize("intensity", [Intensity.MIN_MAX, Intensity.PERCENTILE_99, Intensity.STRETCH])
@pytest.mark.parametrize("resampling", Resampling)
@pytest.mark.parametrize("fit", Fit)
def test_a_constant_image_is_black_and_never_amplified_rounding(
    fit: Fit, resampling: Resampling, intensity: Intensity
) -> None:
    placement = Placement.of(301, 207, profile(64, fit, None, resampling, intensity))
    assert placement.apply(np.full((301, 207), 0.7, np.float32)).max() == 0


def test_min_max_is_over_what_the_model_sees() -> None:
    image = np.full((100, 200), 0.25, np.float32)
    image[:, 100:] = 0.5
    # Outside of the crop, and the bars of a letterbox: neither is what the darkest and the brightest is looked for in.
    image[:, :20], image[:, -20:] = 0.0, 1.0
    cropped = Placement.of(100, 200, profile(50, Fit.CENTRE_CROP, intensity=Intensity.MIN_MAX)).apply(image)
    assert (cropped.min(), cropped.max()) == (0, 1)
    assert set(np.unique(cropped[:, [10, 40]])) == {0, 1}
    boxed = Placement.of(100, 160, profile(160, intensity=Intensity.MIN_MAX)).apply(image[:, 20:-20])
    np.testing.assert_allclose(boxed[30:130, 10], 0, atol=1e-6)
    np.testing.assert_allclose(boxed[30:130, 150], 1, atol=1e-6)
    assert boxed[:30].max() == 0


def test_a_narrow_range_of_16_bits_survives_min_max() -> None:
    # 100 of 65536 greys: 8 bits on the way would leave one.
    ramp = np.tile(np.linspace(0.5, 0.5 + 100 / 65535, 64, dtype=np.float32), (64, 1))
    stretched = Placement.of(64, 64, profile(64, intensity=Intensity.MIN_MAX)).apply(ramp)
    assert len(np.unique(stretched)) == 64
    np.testing.assert_allclose(stretched[0], np.linspace(0, 1, 64), atol=0.01)


def test_a_few_bright_pixels_do_not_darken_the_rest_at_the_99th_percentile() -> None:
    film = np.random.default_rng(0).uniform(0.1, 0.5, (512, 512)).astype(np.float32)
    film[10:40, 10:60] = 1.0  # a marker of lead, 0.6 % of the film
    placed = Placement.of(512, 512, profile(512, Fit.SQUASH, intensity=Intensity.PERCENTILE_99)).apply(film)
    assert placed.max() == 1
    assert np.median(placed) == pytest.approx(0.5, abs=0.02)


_GREYS = np.random.default_rng(0).normal(0.5, 0.08, (100, 60)).clip(0, 1).astype(np.float32)
_STRETCH = profile(100, intensity=Intensity.STRETCH)


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.15), (1.0, -0.15), (0.7, 0.1), (1.3, -0.1)])
def test_another_window_is_undone_by_stretch(gain: float, offset: float) -> None:
    placement = Placement.of(100, 60, _STRETCH)
    original, windowed = placement.apply(_GREYS), placement.apply(_GREYS * np.float32(gain) + np.float32(offset))
    np.testing.assert_allclose(windowed, original, atol=1e-4)
    assert original.std() > 0.15


def test_stretch_looks_for_its_percentiles_where_the_image_is_and_not_in_the_letterbox() -> None:
    placed = Placement.of(100, 60, _STRETCH).apply(_GREYS)
    seen = placed[:, 20:80]
    np.testing.assert_allclose(np.percentile(seen, [5, 95]), [0.05, 0.95], atol=0.001)
    assert (seen.min(), seen.max()) == (0, 1)
    assert placed[:, :20].max() == placed[:, 80:].max() == 0


def test_what_little_an_image_of_one_grey_shows_survives_stretch() -> None:
    film = np.full((100, 100), 0.3, np.float32)
    film[40:50, 40:50] = 0.4
    placed = Placement.of(100, 100, _STRETCH).apply(film)
    assert set(np.unique(placed)) == {0, 1}
    assert placed[45, 45] == 1


_SIDES = st.integers(0, 60)


@settings(max_examples=40, deadline=None)
@given(_SIDES, _SIDES, _SIDES, _SIDES, profiles(st.sampled_from([64, 256])))
def test_what_is_beside_the_area_changes_nothing_of_what_the_model_sees(
    left: int, top: int, right: int, bottom: int, preprocessing: Preprocessing
) -> None:
    film = np.random.default_rng(0).random((150, 110)).astype(np.float32)
    barred = np.pad(film, ((top, bottom), (left, right)), constant_values=0.4)
    cutting = preprocessing.model_copy(update={"cut_bars": True})
    placement = Placement.of(barred.shape[0], barred.shape[1], cutting, Area(left, top, left + 110, top + 150))
    own = Placement.of(150, 110, preprocessing)
    np.testing.assert_array_equal(placement.apply(barred), own.apply(film))
    point = np.array([[31.5, 70.25]])
    np.testing.assert_allclose(placement.to_model(point + np.array([left, top])), own.to_model(point), atol=1e-9)
    logits = np.ones((16, 16), np.float32)
    mask = placement.upsample_mask(logits)
    np.testing.assert_array_equal(mask[top : top + 150, left : left + 110], own.upsample_mask(logits))
    assert mask.sum() == own.upsample_mask(logits).sum()


def test_bars_stay_where_the_profile_does_not_cut_them() -> None:
    assert Placement.of(100, 80, profile(64), Area(10, 10, 70, 90)).area == Area(0, 0, 80, 100)


_PUBLISHED = {
    # Resize the shorter side, CenterCrop, ToTensor, min-max: facts of the published evaluation.
    "chexfound": v2.Compose([v2.Resize(512, v2.InterpolationMode.BICUBIC), v2.CenterCrop(512)]),
    "mae": v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)]),
}


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"the real films are not at hand ({REAL_DATA})")
@pytest.mark.parametrize("name", _PUBLISHED)
def test_real_films_are_placed_as_the_published_pipeline_does_it(name: str) -> None:
    """Greys differ by no more than the published way's roundings to 8 bits, which min-max stretches.

    On 133 films: at most 3.1 of 255, on average 0.3.
    """
    films = sorted(REAL_DATA.glob("cxr/nih_chestxray14_subset/**/*.jpg"))[::200]
    films += sorted(REAL_DATA.glob("cxr/kermany_v7_masks/**/*.jpg"))[::100]
    assert len(films) >= 6
    for path in films:
        with Image.open(path) as opened:
            grey = opened.convert("L")
        expected = np.asarray(_PUBLISHED[name](grey), np.float32) / 255
        if PROFILES[name].intensity is Intensity.MIN_MAX:
            expected = (expected - expected.min()) / (expected.max() - expected.min())
        image = (np.asarray(grey, np.float32) / 255).astype(np.float32)
        placed = Placement.of(image.shape[0], image.shape[1], PROFILES[name]).apply(image)
        difference = np.abs(placed - expected)
        assert difference.max() < 4 / 255, path
        assert difference.mean() < 1 / 255, path
