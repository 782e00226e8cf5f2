from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress

from schemas.codes import Finding, Segment
from schemas.errors import BundleError, SettingsError
from tests.support.examples import PREPROCESSING
from tests.support.looks import tiny_manifest
from training.examples.mixture import Mixture, Part
from training.examples.store import Examples
from training.examples.targets import CHANNELS, TARGETS
from training.learning import loop
from training.learning.augment import first_batch
from training.learning.looks import fit_first_look, fit_second_look
from training.learning.loop import CurvePoint, LearningSettings
from training.learning.losses import Weights, first_loss, present_weights
from workers.networks.network import Network, NetworkOutput, build_network

_TARGETS = [Finding.PLEURAL_EFFUSION.value, "endotracheal_tube.presence"]
_SETTINGS = LearningSettings(steps=6, batch=4, learning_rate=2e-3, warm_up_steps=1, checkpoint_every=2)


def _network() -> Network:
    torch.manual_seed(0)
    return build_network(tiny_manifest(_TARGETS))


def _fit(network: Network, examples: Examples, checkpoint: Path | None, settings: LearningSettings) -> list[CurvePoint]:
    with Progress(disable=True) as progress:
        mixture, manifest = Mixture([Part("drawings", examples)]), tiny_manifest(_TARGETS)
        first = fit_first_look(network, mixture, manifest, settings, progress, checkpoint)
        second = checkpoint.with_name("second.pt") if checkpoint else None
        return first + fit_second_look(network, mixture, manifest, settings, progress, second)


def test_a_killed_training_ends_in_the_very_weights_of_one_that_was_not(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, interrupted = _network(), _network()
    curve = _fit(whole, examples, None, _SETTINGS)
    keep = loop._keep

    def keep_and_die(checkpoint: Path, *state: object) -> None:
        keep(checkpoint, *state)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    # Killed after the second, and again after the fourth step, each time in the middle of nowhere.
    for _ in range(2):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(loop, "_keep", keep_and_die)
            _fit(_network(), examples, tmp_path / "first.pt", _SETTINGS)
    resumed = _fit(interrupted, examples, tmp_path / "first.pt", _SETTINGS)
    assert resumed == curve
    for (name, tensor), other in zip(whole.state_dict().items(), interrupted.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
    assert not interrupted.training


def test_a_checkpoint_of_other_settings_is_refused_with_advice(examples: Examples, tmp_path: Path) -> None:
    checkpoint = tmp_path / "first.pt"
    _fit(_network(), examples, checkpoint, _SETTINGS)
    other = LearningSettings(steps=6, batch=4, learning_rate=1e-3, warm_up_steps=1)
    with pytest.raises(SettingsError, match="Delete it"):
        _fit(_network(), examples, checkpoint, other)


def test_both_looks_learn(examples: Examples) -> None:
    settings = LearningSettings(steps=30, batch=4, learning_rate=4e-3, warm_up_steps=3)
    curve = _fit(_network(), examples, None, settings)
    for name, steps in (("regions", curve[:30]), ("courses", curve[:30]), ("landmarks", curve[30:])):
        before, after = (np.mean([point.losses[name] for point in part]) for part in (steps[:5], steps[-5:]))
        assert after < 0.8 * before, name


def test_classes_that_examples_know_nothing_of_are_refused(examples: Examples) -> None:
    manifest = tiny_manifest([*_TARGETS, "my.own.question"])
    with Progress(disable=True) as progress, pytest.raises(BundleError, match=r"my\.own\.question"):
        fit_first_look(
            build_network(manifest), Mixture([Part("drawings", examples)]), manifest, _SETTINGS, progress, None
        )


def test_what_is_unknown_pulls_at_nothing(examples: Examples) -> None:
    batch = first_batch(examples.rows(slice(0, 4)), PREPROCESSING, torch.Generator().manual_seed(0))
    logits = torch.zeros(4, 2, requires_grad=True)
    dense = torch.zeros(batch.dense.shape, requires_grad=True)
    columns = torch.tensor([TARGETS.index(each) for each in (Finding.NODULE.value, Finding.PLEURAL_EFFUSION.value)])
    output = NetworkOutput(logits, torch.zeros(0), dense)
    losses = first_loss(output, batch, columns, torch.ones(2), Weights.at(1.0))
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert dense.grad is not None
    assert (logits.grad[:, 0] == 0).all()
    assert (logits.grad[:, 1] != 0).all()
    assert (dense.grad[:, CHANNELS.index(Segment.HEART)] == 0).all()
    assert (dense.grad[:, CHANNELS.index(Segment.LEFT_LUNG)] != 0).any()


def test_the_truth_itself_costs_less_than_its_opposite(examples: Examples) -> None:
    batch = first_batch(examples.rows(slice(0, 8)), PREPROCESSING, torch.Generator().manual_seed(0))
    columns = torch.tensor([TARGETS.index(Finding.PLEURAL_EFFUSION.value)])
    right = 8 * (2 * batch.dense.nan_to_num() - 1), 8 * (2 * batch.classes[:, columns] - 1)
    costs = []
    for sign in (1, -1):
        output = NetworkOutput(sign * right[1], torch.zeros(0), sign * right[0])
        costs.append(first_loss(output, batch, columns, torch.ones(1), Weights.at(1.0)))
    for name in costs[0]:
        assert costs[0][name] < 0.5 * costs[1][name], name


def test_rare_classes_weigh_more_but_never_without_bound() -> None:
    weights = present_weights(np.array([0.5, 0.1, 0.001, 0.9]))
    assert weights.tolist() == pytest.approx([1.0, 3.0, 6.0, 1.0])


def test_lines_come_first_and_classes_later() -> None:
    early, late = Weights.at(0.0), Weights.at(0.5)
    assert early.courses > late.courses
    assert early.classes < late.classes
