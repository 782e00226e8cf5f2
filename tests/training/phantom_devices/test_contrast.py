"""Contrast to noise of a line in a picture."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.phantom.contrast import contrast_to_noise

COURSE = np.stack([np.linspace(30, 170, 80), np.linspace(20, 180, 80)], axis=1).astype(np.float32)


def _picture(contrast: float, noise: float) -> NDArray[np.float32]:
    """A line of 6 pixels width along COURSE on a sloping background."""
    rows, columns = np.mgrid[0:200, 0:200] + 0.5
    along = (COURSE[-1] - COURSE[0]) / np.linalg.norm(COURSE[-1] - COURSE[0])
    away = np.abs((columns - COURSE[0, 0]) * along[1] - (rows - COURSE[0, 1]) * along[0])
    picture = 0.4 + 0.001 * rows + contrast * (away < 3)
    picture += noise * np.random.default_rng(0).standard_normal((200, 200))
    return np.asarray(picture, dtype=np.float32)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_ratio_is_that_of_the_picture(sign: int) -> None:
    # Reading between pixels averages up to four of them, which takes about a third of white noise away.
    assert contrast_to_noise(_picture(sign * 0.2, 0.02), COURSE, 1.5, 2.0) == pytest.approx(10, rel=0.6)
    faint, strong = (contrast_to_noise(_picture(sign * height, 0.02), COURSE, 1.5, 2.0) for height in (0.05, 0.2))
    assert strong / faint == pytest.approx(4, rel=0.25)


def test_without_a_line_there_is_none_to_speak_of() -> None:
    assert contrast_to_noise(_picture(0.0, 0.02), COURSE, 1.5, 2.0) < 1.2


def test_a_course_without_length_has_none() -> None:
    assert contrast_to_noise(_picture(0.2, 0.02), COURSE[:1], 1.5, 2.0) == 0
    assert contrast_to_noise(_picture(0.2, 0.02), COURSE[:0], 1.5, 2.0) == 0
