import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.letterbox import Letterbox

_LENGTHS = st.integers(1, 4000)
_SIZES = st.integers(32, 1024)


@given(_LENGTHS, _LENGTHS, _SIZES, st.floats(0, 1), st.floats(0, 1))
def test_to_image_undoes_to_model(rows: int, columns: int, size: int, x: float, y: float) -> None:
    box = Letterbox(rows, columns, size)
    points = np.array([[x * columns, y * rows], [0, 0], [columns, rows]])
    np.testing.assert_allclose(box.to_image(box.to_model(points)), points, atol=1e-6)
    model = np.array([[x * size, y * size]])
    np.testing.assert_allclose(box.to_model(box.to_image(model)), model, atol=1e-6)


@given(_LENGTHS, _LENGTHS, _SIZES)
def test_the_whole_image_lies_centred_in_the_input(rows: int, columns: int, size: int) -> None:
    box = Letterbox(rows, columns, size)
    (left, top), (right, bottom) = box.to_model(np.array([[0, 0], [columns, rows]])).tolist()
    assert max(right - left, bottom - top) == pytest.approx(size)
    for before, after in ((left, size - right), (top, size - bottom)):
        assert before >= 0
        assert -1e-6 <= after - before <= 1 + 1e-6


@settings(max_examples=60, deadline=None)
@given(st.integers(200, 1500), st.integers(200, 1500), st.integers(64, 700), st.floats(0.2, 0.8), st.floats(0.2, 0.8))
def test_a_blob_lands_where_to_model_says(rows: int, columns: int, size: int, x: float, y: float) -> None:
    box = Letterbox(rows, columns, size)
    centre = np.array([[x * columns, y * rows]])
    spread = min(rows, columns) / 20
    row, column = np.arange(rows) + 0.5, np.arange(columns) + 0.5
    down = np.exp(-0.5 * ((row - centre[0, 1]) / spread) ** 2)
    across = np.exp(-0.5 * ((column - centre[0, 0]) / spread) ** 2)
    values = box.apply(np.outer(down, across).astype(np.float32))
    assert values.dtype == np.float32
    assert values.shape == (size, size)
    total = values.sum()
    at = np.arange(size) + 0.5
    found = np.array([(values.sum(axis=0) * at).sum() / total, (values.sum(axis=1) * at).sum() / total])
    assert np.abs(found - box.to_model(centre)[0]).max() < 0.5


@pytest.mark.parametrize(("rows", "columns"), [(2500, 2048), (2048, 2500), (300, 300), (256, 1000), (97, 61)])
@pytest.mark.parametrize("stride", [1, 4, 16])
def test_upsample_lands_where_to_image_says(rows: int, columns: int, stride: int) -> None:
    # A map that holds each cell's own x coordinate must read x = to_model(x) at every image pixel.
    size = 256
    box = Letterbox(rows, columns, size)
    cells = (np.arange(size // stride, dtype=np.float32) + 0.5) * stride
    across = box.upsample(np.tile(cells, (len(cells), 1)))
    down = box.upsample(np.tile(cells[:, None], (1, len(cells))))
    assert across.shape == down.shape == (rows, columns)
    x = box.to_model(np.column_stack([np.arange(columns) + 0.5, np.zeros(columns)]))[:, 0]
    y = box.to_model(np.column_stack([np.zeros(rows), np.arange(rows) + 0.5]))[:, 1]
    # The outermost half cell has nothing to interpolate with and stays constant; where the map has more cells than
    # the image has pixels, the filter widens and so does that border.
    border = stride / 2 + 1.5 * max(1.0, size / max(rows, columns))
    for found, expected in ((across[rows // 2], x), (down[:, columns // 2], y)):
        inner = (expected > border) & (expected < size - border)
        assert np.abs(found - expected)[inner].max() < 0.05 * stride + 0.01


def test_brightness_is_kept_and_the_bars_are_zero() -> None:
    box = Letterbox(1000, 500, 128)
    values = box.apply(np.full((1000, 500), 0.7, np.float32))
    np.testing.assert_allclose(values[:, 32:96], 0.7, atol=1e-6)
    assert values[:, :32].max() == values[:, 96:].max() == 0


def test_fine_detail_is_averaged_and_makes_no_moire() -> None:
    stripes = np.zeros((2000, 2000), np.float32)
    stripes[:, ::2] = 1
    assert Letterbox(2000, 2000, 300).apply(stripes)[:, 2:-2].std() < 0.02


def test_an_image_of_the_models_size_is_taken_as_it_is() -> None:
    image = np.random.default_rng(0).random((64, 48)).astype(np.float32)
    np.testing.assert_array_equal(Letterbox(64, 48, 64).apply(image)[:, 8:56], image)


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 900), st.integers(20, 900), st.sampled_from([64, 256]), st.integers(0, 999), st.floats(-2, 3))
def test_a_mask_is_the_threshold_of_the_enlarged_logits(
    rows: int, columns: int, size: int, seed: int, offset: float
) -> None:
    box = Letterbox(rows, columns, size)
    logits = (np.random.default_rng(seed).normal(size=(size // 4, size // 4)) - offset).astype(np.float32)
    whole = box.upsample(logits)
    mask = box.upsample_mask(logits)
    assert mask.dtype == np.bool_
    assert (mask == (whole > 0))[np.abs(whole) > 1e-4].all()
