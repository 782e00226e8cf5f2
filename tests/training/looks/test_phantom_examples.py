"""Phantoms that are learned from beside radiographs: half of them are treated as radiographs are, none that tests."""

import numpy as np

from training.curation.burned_in import without_burned_in
from training.examples.phantoms import PhantomMaker

_SIDE, _CORNERS = 96, 0.08


def test_about_half_of_the_phantoms_beside_radiographs_have_their_corners_filled_as_theirs() -> None:
    drawn, beside = (PhantomMaker(0, film_side=_SIDE, corners=corners) for corners in (None, _CORNERS))
    treated = 0
    for index in range(24):
        plain, learned = drawn(index), beside(index)
        filled = without_burned_in(plain.image, _CORNERS)
        same = np.array_equal(plain.image, learned.image)
        assert same or np.array_equal(learned.image, filled)
        assert learned.truth.classes == plain.truth.classes
        treated += not same
    assert 6 <= treated <= 18
