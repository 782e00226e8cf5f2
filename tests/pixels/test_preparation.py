from pathlib import Path

import numpy as np
import pytest

from schemas.errors import UnsupportedImageError
from schemas.preprocessing import PROFILES, Intensity
from tests.pixels.films import film, written
from workers.pixels import read_pixels
from workers.placement import Placement
from workers.preparation import Wanted, prepare


def test_one_file_is_placed_for_every_profile_as_each_alone_would_have_it(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(100, 4000, (300, 240), dtype=np.uint16)
    path = written(film(values), tmp_path / "film.dcm")
    profiles = list(PROFILES.values())
    placed = [each.pixels for each in prepare(path, [Wanted(profile) for profile in profiles])]
    assert len(placed) == len(profiles)
    pixels = read_pixels(path)
    rows, columns = pixels.shape
    for image, profile in zip(placed, profiles, strict=True):
        assert image.dtype == np.float32
        assert image.shape == (profile.size, profile.size)
        assert 0 <= image.min() < image.max() <= 1
        np.testing.assert_array_equal(image, Placement.of(rows, columns, profile).apply(pixels))


def test_for_a_second_look_the_same_reading_is_placed_once_more_in_finer_pixels(tmp_path: Path) -> None:
    path = written(film(np.random.default_rng(0).integers(100, 4000, (300, 240), dtype=np.uint16)), tmp_path / "a.dcm")
    coarse = PROFILES["letterbox"].model_copy(update={"intensity": Intensity.STRETCH})
    fine = coarse.model_copy(update={"size": 1024})
    prepared, plain = prepare(path, [Wanted(coarse, fine), Wanted(coarse)])
    np.testing.assert_array_equal(prepared.pixels, plain.pixels)
    assert plain.detail is None and prepared.detail is not None
    assert prepared.detail.pixels.dtype == np.uint8
    expected = Placement.of(300, 240, fine).apply(read_pixels(path))
    np.testing.assert_allclose(prepared.detail.pixels / 255, expected, atol=0.5 / 255 + 1e-6)


def test_a_picture_of_nothing_is_refused(tmp_path: Path) -> None:
    path = written(film(np.full((64, 64), 700, np.uint16)), tmp_path / "film.dcm")
    with pytest.raises(UnsupportedImageError, match="same value"):
        prepare(path, [Wanted(PROFILES["letterbox"])])
