import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import EngineError, ObjectMissingError
from workers.output import Closer, ModelOutput


def _output(seed: int = 0, classes: int = 3) -> ModelOutput:
    random = np.random.default_rng(seed)
    return ModelOutput(
        logits=random.normal(size=classes).astype(np.float32),
        attention=random.random((classes, 4, 4)).astype(np.float16),
        dense=random.normal(size=(5, 16, 16)).astype(np.float16),
    )


def test_bytes_give_back_the_same_output_and_are_the_same_every_time() -> None:
    output = _output()
    content = output.to_bytes()
    read = ModelOutput.from_bytes(content)
    for name in ("logits", "attention", "dense"):
        np.testing.assert_array_equal(getattr(read, name), getattr(output, name))
        assert getattr(read, name).dtype == getattr(output, name).dtype
    assert read.to_bytes() == content == _output().to_bytes()


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_with_a_project_error(content: bytes) -> None:
    with pytest.raises(ObjectMissingError):
        ModelOutput.from_bytes(content)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_byte_never_gives_another_kind_of_error(position: int, change: int) -> None:
    content = bytearray(_output().to_bytes())
    content[position % len(content)] ^= change
    with contextlib.suppress(ObjectMissingError):
        ModelOutput.from_bytes(bytes(content))


def test_a_second_look_is_kept_with_the_output_and_one_without_it_keeps_the_bytes_it_had() -> None:
    plain = _output()
    closer = Closer(17, 300, np.random.default_rng(1).normal(size=(3, 80, 80)).astype(np.float16))
    content = replace(plain, closer=closer).to_bytes()
    read = ModelOutput.from_bytes(content)
    assert read.closer is not None and (read.closer.left, read.closer.top) == (17, 300)
    np.testing.assert_array_equal(read.closer.dense, closer.dense)
    assert read.to_bytes() == content
    # As they were written before there was a second look.
    stream = io.BytesIO()
    np.savez_compressed(stream, logits=plain.logits, attention=plain.attention, dense=plain.dense)
    assert plain.to_bytes() == stream.getvalue()
    assert ModelOutput.from_bytes(stream.getvalue()).closer is None


def test_what_a_network_may_not_say_is_an_engine_error() -> None:
    good = _output()
    bad_logits = good.logits.copy()
    bad_logits[0] = np.nan
    with pytest.raises(EngineError, match="NaN"):
        ModelOutput(bad_logits, good.attention, good.dense)
    with pytest.raises(EngineError, match="float16"):
        ModelOutput(good.logits, good.attention.astype(np.float32), good.dense)
    with pytest.raises(EngineError, match="attention maps"):
        ModelOutput(good.logits, good.attention[:2], good.dense)
    with pytest.raises(EngineError, match="'closer' holds NaN"):
        Closer(0, 0, np.full((3, 8, 8), np.inf, np.float16))
