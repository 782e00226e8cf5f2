"""Every backend computes what torch computes in float32, as exactly as its precision says."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.bundle import bundle_digest
from schemas.tuning import REFERENCE, EngineChoice
from workers.backends.backend import Outputs
from workers.backends.choice import make_backend, make_closer
from workers.bundle import load_bundle, normalise

pytest.importorskip("openvino", reason="the extra 'acceleration' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'acceleration' is not installed")

EXACT = [REFERENCE, EngineChoice(name="openvino"), EngineChoice(name="onnxruntime")]
IMAGES = np.random.default_rng(1).uniform(size=(3, 64, 64)).astype(np.float32)


def computed(bundle: Path, engine: EngineChoice) -> Outputs:
    return make_backend(load_bundle(bundle), engine, "cpu", largest_batch=4).launch(IMAGES)()


@pytest.mark.parametrize("engine", EXACT, ids=str)
def test_float32_gives_the_networks_own_numbers(tiny: Path, engine: EngineChoice) -> None:
    loaded = load_bundle(tiny)
    with torch.inference_mode():
        expected = loaded.network(normalise(torch.from_numpy(IMAGES), loaded.manifest.preprocessing))
    outputs = computed(tiny, engine)
    np.testing.assert_allclose(outputs.logits, expected.logits.numpy(), atol=1e-4)
    maps = expected.attention.mean(dim=1).unflatten(-1, (4, 4)).numpy()
    np.testing.assert_allclose(outputs.attention, maps, atol=1e-5)
    np.testing.assert_allclose(outputs.dense, expected.dense.numpy(), atol=1e-3)
    assert {outputs.logits.dtype, outputs.attention.dtype, outputs.dense.dtype} == {np.dtype(np.float32)}


@pytest.mark.parametrize("engine", EXACT, ids=str)
def test_a_bundle_with_three_channels_and_without_maps_gives_its_logits_alone(
    probe: Path, engine: EngineChoice
) -> None:
    loaded = load_bundle(probe)
    with torch.inference_mode():
        expected = loaded.network(normalise(torch.from_numpy(IMAGES), loaded.manifest.preprocessing))
    outputs = computed(probe, engine)
    np.testing.assert_allclose(outputs.logits, expected.logits.numpy(), atol=1e-4)
    assert len(np.unique(outputs.logits.round(4))) == outputs.logits.size, "the images differ, and so do the classes"
    assert outputs.attention.shape[:2] == (3, 0) and outputs.dense.shape == (3, 0, 1, 1)


@pytest.mark.parametrize("engine", EXACT, ids=str)
def test_the_second_look_gives_the_networks_own_numbers_too(looking: Path, engine: EngineChoice) -> None:
    loaded = load_bundle(looking)
    assert loaded.network.second_look is not None
    with torch.inference_mode():
        expected = loaded.network.second_look(normalise(torch.from_numpy(IMAGES), loaded.manifest.preprocessing))
    closer = make_closer(load_bundle(looking), engine, "cpu", largest_batch=4)
    assert closer is not None and (closer.name, closer.precision) == (engine.name, engine.precision)
    outputs = closer.launch(IMAGES)()
    np.testing.assert_allclose(outputs.dense, expected.numpy(), atol=1e-4)
    assert expected.std() > 0.03 and outputs.logits.shape == (3, 0)


def test_bfloat16_differs_a_little_and_not_more(tiny: Path) -> None:
    exact, rounded = computed(tiny, REFERENCE), computed(tiny, EngineChoice(precision="bfloat16"))
    difference = np.abs(rounded.logits - exact.logits).max()
    assert 0 < difference < 0.05 * np.abs(exact.logits).max()


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_the_converted_model_lies_beside_the_bundle_and_is_made_once(tiny: Path, name: str) -> None:
    digest = bundle_digest(tiny)
    engine = EngineChoice.model_validate({"name": name})
    computed(tiny, engine)
    beside = tiny.with_name("bundle.converted")
    (folder,) = [each for each in beside.iterdir() if f"-{name}-" in each.name]
    made = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    computed(tiny, engine)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == made
    assert digest == bundle_digest(tiny) and folder.name.startswith(digest[:16])


def test_what_a_killed_engine_left_of_a_conversion_is_removed_by_a_later_one(tiny: Path) -> None:
    beside = tiny.with_name("bundle.converted")
    shutil.rmtree(beside, ignore_errors=True)
    for name, age in ((".draft-dead", 7200.0), (".draft-alive", 0.0)):
        (beside / name).mkdir(parents=True)
        os.utime(beside / name, (time.time() - age, time.time() - age))
    computed(tiny, EngineChoice(name="openvino"))
    assert [path.name for path in beside.glob(".draft-*")] == [".draft-alive"]


def test_a_bundle_in_a_place_that_cannot_be_written_is_converted_elsewhere(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle").symlink_to(tiny)
    beside = tiny.with_name("bundle.converted")
    kept = beside.with_name("kept")
    if beside.exists():
        beside.rename(kept)
    beside.write_text("in the way\n")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    try:
        for name in ("openvino", "onnxruntime"):
            engine = EngineChoice.model_validate({"name": name})
            assert computed(tmp_path / "bundle", engine).logits.shape[0] == 3
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "no copy of the weights stays behind"
    finally:
        beside.unlink()
        if kept.exists():
            kept.rename(beside)
