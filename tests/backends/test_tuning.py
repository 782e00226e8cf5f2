"""`chexnode bundle tune` keeps a choice that engines use, as long as it holds."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from schemas.bundle import bundle_digest, read_manifest
from schemas.command_line import chexnode
from schemas.errors import BundleError, EngineUnavailableError
from schemas.settings import WorkerSettings
from schemas.tuning import (
    REFERENCE,
    DeviceTuning,
    EngineChoice,
    MeasuredEngine,
    Tuning,
    read_tuning,
    tuning_file,
    write_tuning,
)
from tests.support.phantoms import write_phantom
from workers.backends.choice import device_name, load_chosen, versions
from workers.bundle import load_bundle, write_bundle
from workers.engine import Engine
from workers.engine_messages import Ready
from workers.tuning import MOST_SCORE_DIFFERENCE, Tuner, selftest_images

BFLOAT16 = EngineChoice(precision="bfloat16")


@pytest.fixture
def bundle(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "bundle"))


def tuned(bundle: Path, choice: EngineChoice, difference: float = 0.1, **changes: object) -> None:
    """Write a tuning as the command would have, apart from `changes` of the device's."""
    device = DeviceTuning(
        device=device_name("cpu"),
        versions=versions(),
        choice=choice,
        selftest_difference=difference,
        images=1,
        measured=[],
    )
    write_tuning(bundle, Tuning(bundle_digest=bundle_digest(bundle), devices=[device.model_copy(update=changes)]))


def serving(bundle: Path) -> Ready:
    """The engine that serves the bundle, after it has computed an image."""
    engine = Engine(bundle, read_manifest(bundle), ["cpu"], WorkerSettings())
    try:
        engine.start()
        return engine.run(np.full((64, 64), 0.5, np.float32)).by
    finally:
        engine.close()


def test_tuning_measures_what_is_installed_and_the_engine_uses_the_choice(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra 'acceleration' is not installed")
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in (1, 2):
        write_phantom(folder / f"{seed}.dcm", seed)
    (folder / "torn.dcm").write_bytes((folder / "1.dcm").read_bytes()[:2000])
    command = ["bundle", "tune", str(bundle), "--device", "cpu", "--images", str(folder)]
    result = CliRunner().invoke(chexnode, command, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "torn.dcm is left out" in result.output
    tuning = read_tuning(bundle)
    assert tuning is not None and tuning.bundle_digest == bundle_digest(bundle)
    (device,) = tuning.devices
    assert device.images == 2
    names = {str(each.engine) for each in device.measured}
    assert {"torch float32", "torch bfloat16", "openvino float32", "onnxruntime float32"} <= names
    fastest = min((each for each in device.measured if not each.refused), key=lambda each: each.milliseconds_per_image)
    assert device.choice == fastest.engine
    assert "chosen" in result.output and all(name in result.output for name in names)
    ready = serving(bundle)
    assert (ready.name, ready.precision) == (device.choice.name, device.choice.precision)


def test_a_device_that_nobody_knows_is_an_error_that_says_what_to_write(bundle: Path) -> None:
    result = CliRunner().invoke(chexnode, ["bundle", "tune", str(bundle), "--device", "gpu"])
    assert result.exit_code == 2 and 'say "cpu"' in result.output


def test_an_engine_is_refused_that_differs_by_more_than_the_bound(bundle: Path) -> None:
    tuner = Tuner(bundle, "cpu", selftest_images(bundle), WorkerSettings())
    exact = tuner.measure(REFERENCE)
    assert (exact.score_difference, exact.refused) == (0, "")
    assert exact.selftest_difference == pytest.approx(0, abs=1e-4)
    close, far = (
        tuner.measure(BFLOAT16).model_copy(update={"score_difference": difference, "milliseconds_per_image": 0.001})
        for difference in (MOST_SCORE_DIFFERENCE / 2, MOST_SCORE_DIFFERENCE * 2)
    )
    bounded = {"flipped_decisions": 0, "landmark_shift": 0, "flipped_mask": 0, "attention_difference": 0}

    def judged(measured: MeasuredEngine) -> MeasuredEngine:
        return measured.model_copy(update={"refused": tuner.refused(measured.model_copy(update=bounded))})

    assert tuner.choose([exact, judged(close)]).choice == BFLOAT16
    assert tuner.choose([exact, judged(far)]).choice == REFERENCE
    assert "scores differ by 0.04, bound 0.02" in judged(far).refused


def test_a_second_look_is_measured_too_and_its_differences_count(looking: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(looking, tmp_path / "bundle"))
    tuner = Tuner(bundle, "cpu", selftest_images(bundle), WorkerSettings())
    assert tuner.measure(REFERENCE).landmark_shift == 0
    # A second look of other weights: only what it gives has changed.
    other = load_bundle(bundle)
    assert other.network.second_look is not None
    with torch.no_grad():
        other.network.second_look.predict.weight.mul_(-3)
        assert other.network.second_look.predict.bias is not None
        other.network.second_look.predict.bias.add_(5)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    write_bundle(bundle, other.manifest, other.network, "# card\n", images, storage=torch.float32)
    changed = tuner.measure(REFERENCE)
    assert changed.score_difference == 0 and changed.flipped_mask > 0.9 and changed.flipped_decisions > 0


def test_without_a_tuning_that_holds_torch_serves_in_float32_and_says_why(bundle: Path) -> None:
    reasons = [load_chosen(bundle, "cpu", 1).reason]
    tuned(bundle, BFLOAT16, versions={"torch": "0.1"})
    reasons.append(load_chosen(bundle, "cpu", 1).reason)
    tuned(bundle, BFLOAT16, device="another CPU")
    reasons.append(load_chosen(bundle, "cpu", 1).reason)
    tuned(bundle, BFLOAT16)
    (bundle / "card.md").write_text("# another card\n")
    reasons.append(load_chosen(bundle, "cpu", 1).reason)
    tuning_file(bundle).write_text("{")
    chosen = load_chosen(bundle, "cpu", 1)
    reasons.append(chosen.reason)
    assert (chosen.backend.name, chosen.backend.precision) == ("torch", "float32")
    for reason, words in zip(
        reasons,
        ["not tuned", "other versions", "not tuned for", "another content", "cannot be read"],
        strict=True,
    ):
        assert words in reason


def test_an_engine_that_does_not_load_any_more_gives_way_to_torch(bundle: Path) -> None:
    # Compiled networks are for CUDA, and the converted ones for the CPU.
    tuned(bundle, EngineChoice(name="openvino"))
    chosen = load_chosen(bundle, "cpu", 1)
    assert chosen.backend.name == "openvino" and chosen.reason == "tuned"
    model = next(bundle.with_name("bundle.converted").glob("*/model.xml"))
    model.write_text("no model")
    chosen = load_chosen(bundle, "cpu", 1)
    assert (chosen.backend.name, chosen.backend.precision) == ("torch", "float32")
    assert "openvino float32 was chosen but does not load" in chosen.reason


def test_a_converted_model_that_was_damaged_gives_way_to_torch_and_is_made_anew(bundle: Path) -> None:
    pytest.importorskip("openvino", reason="the extra 'acceleration' is not installed")
    tuned(bundle, EngineChoice(name="openvino"), difference=0.0)
    assert load_chosen(bundle, "cpu", 1).backend.name == "openvino"
    weights = next(bundle.with_name("bundle.converted").glob("*/model.bin"))
    numbers = np.fromfile(weights, np.uint8)
    numbers[len(numbers) // 2 : len(numbers) // 2 + 20_000] = 0  # as blocks that a power cut lost
    numbers.tofile(weights)
    chosen = load_chosen(bundle, "cpu", 1)
    assert (chosen.backend.name, chosen.backend.precision) == ("torch", "float32")
    assert "its converted model computes something else" in chosen.reason
    assert load_chosen(bundle, "cpu", 1).backend.name == "openvino"


def test_a_tuned_engine_may_differ_by_what_it_differed_by_and_a_margin(bundle: Path) -> None:
    path = bundle / "selftest.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, "logits": arrays["logits"] + 0.04})  # within what the bundle itself allows
    assert load_chosen(bundle, "cpu", 1).selftest_difference == pytest.approx(0.04, abs=1e-4)
    tuned(bundle, REFERENCE, difference=0.03)
    assert load_chosen(bundle, "cpu", 1).reason == "tuned"
    tuned(bundle, REFERENCE, difference=0.0)
    with pytest.raises(BundleError, match=r"differs by 0\.04 where 0\.01 is allowed"):
        load_chosen(bundle, "cpu", 1)
    with pytest.raises(EngineUnavailableError, match=r"differs by 0\.04 where 0\.01 is allowed"):
        serving(bundle)
