"""Drawings as examples, made once for the tests of this folder."""

import pytest

from tests.support.examples import drawn_examples
from training.examples.store import Examples


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return drawn_examples(tmp_path_factory.mktemp("examples"), 48)
