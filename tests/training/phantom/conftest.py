"""Phantoms that several tests look at, rendered once."""

import pytest

from training.phantom.render import render_phantom
from training.phantom.truth import Phantom


@pytest.fixture(scope="package")
def phantoms() -> list[Phantom]:
    return [render_phantom(seed, 192, 160 if seed % 2 else 192) for seed in range(40)]
