import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from workers.components import KEPT_SHARE, substantial_parts


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_keeps_what_scipy_labels_as_large_enough(mask: NDArray[np.bool_]) -> None:
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    expected = (sizes >= KEPT_SHARE * sizes.max())[labels] & mask
    np.testing.assert_array_equal(substantial_parts(mask), expected)


@pytest.mark.parametrize("value", [False, True])
def test_a_uniform_mask_stays_as_it_is(value: bool) -> None:
    mask = np.full((20, 30), value)
    np.testing.assert_array_equal(substantial_parts(mask), mask)
