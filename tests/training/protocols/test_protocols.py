"""Protocols say what features are worth: with whose labels, at which rate, how sure, and against what."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rich.progress import Progress
from torch import nn

from schemas.bundle import Architecture, ClassificationHead
from schemas.preprocessing import Preprocessing
from tests.training.pretraining.tiny import METHODS, drawn_store, tiny_recipe
from training.compare_command import _PROTOCOLS, compare_command
from training.evaluation.statistics import auroc, patient_resamples
from training.pretraining.encoder import create_vit
from training.pretraining.store import Store
from training.protocols.compare import PROTOCOLS, Comparer, Comparison, ComparisonSettings, Contestant
from training.protocols.compute import equal_budget
from training.protocols.curves import comparison_table, save_curves
from training.protocols.features import CachedFeatures, cached_features
from training.protocols.grid import Labelled, best_of_grid, masked_loss, said
from training.protocols.heads import HeadKind, fresh_head
from training.protocols.label_draws import drawn_rows
from training.protocols.lora import LoraLinear, add_lora
from training.protocols.scores import macro_auroc, mean_difference, mean_score
from training.protocols.tuning import LabelledImages, TuningSettings, said_of_images, tuned
from workers.networks.glori import GLoRI
from workers.networks.glori_pyramid import PyramidGLoRI
from workers.networks.linear import LinearProbe
from workers.networks.vit import ViT

_PREPROCESSING = Preprocessing(profile="letterbox", size=64, mean=(0.5,) * 3, std=(0.25,) * 3)
_ARGUMENTS = {
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "hidden": 48,
    "ffn": "swiglu",
    "in_chans": 3,
    "reg_tokens": 1,
    "layer_scale": False,
    "mask_token": False,
}


@pytest.fixture(scope="module")
def vit() -> ViT:
    torch.manual_seed(0)
    return create_vit(Architecture(timm_name="chexnode_vit_patch16", arguments=_ARGUMENTS), 64).eval()


@pytest.fixture(scope="module")
def store() -> Store:
    return drawn_store(96)


@pytest.fixture(scope="module")
def features(vit: ViT, store: Store, tmp_path_factory: pytest.TempPathFactory) -> CachedFeatures:
    with Progress(disable=True) as progress:
        return cached_features(vit, store, _PREPROCESSING, tmp_path_factory.mktemp("features"), progress, "features")


def _labelled(features: CachedFeatures, store: Store, rows: range) -> Labelled:
    return Labelled(features, np.array(rows), store.labels[rows.start : rows.stop, :1])


def test_cached_features_are_those_of_the_backbone_and_found_again(vit: ViT, store: Store, tmp_path: Path) -> None:
    with Progress(disable=True) as progress:
        first = cached_features(vit, store, _PREPROCESSING, tmp_path, progress, "features")
        (folder,) = tmp_path.iterdir()
        written = (folder / "cls.npy").stat().st_mtime_ns
        again = cached_features(vit, store, _PREPROCESSING, tmp_path, progress, "features")
        assert (folder / "cls.npy").stat().st_mtime_ns == written
        other = copy.deepcopy(vit)
        with torch.no_grad():
            other.norm.bias.add_(1)
        cached_features(other, store, _PREPROCESSING, tmp_path, progress, "features")
    assert len(list(tmp_path.iterdir())) == 2
    assert np.array_equal(first.cls, again.cls)
    greys = torch.from_numpy(store.images.take(np.array([5]))).float() / 255
    images = ((greys - 0.5) / 0.25)[:, None].expand(-1, 3, -1, -1)
    with torch.inference_mode():
        expected = vit(images)
    found = first.of(np.array([5]))
    assert torch.allclose(found.cls[-1], expected.cls[-1], atol=5e-3)
    assert torch.allclose(found.patches[0], expected.patches[0], atol=5e-3)


def test_the_rate_is_chosen_by_validation_images_and_the_head_finds_what_is_there(
    features: CachedFeatures, store: Store
) -> None:
    learned, validation, tested = (_labelled(features, store, range(start, start + 32)) for start in (0, 32, 64))
    chosen = best_of_grid(
        lambda: LinearProbe(32, 1, blocks=2, mean_patch=True), learned, validation, rates=(1e-5, 2e-2), steps=120
    )
    assert chosen.rate == 2e-2
    assert macro_auroc(said(chosen.head, tested), tested.labels) > 0.9


@pytest.mark.parametrize("kind", ["glori", "glori_pyramid"])
def test_both_versions_of_glori_learn_from_cached_patches(
    kind: HeadKind, vit: ViT, features: CachedFeatures, store: Store
) -> None:
    learned, validation = (_labelled(features, store, range(start, start + 48)) for start in (0, 48))
    create = fresh_head(kind, vit, 1)
    chosen = best_of_grid(create, learned, validation, rates=(1e-4, 1e-3), steps=30, batch=16, precision="bf16")
    assert chosen.validation > 0.9
    # Asked in float32, whatever it was trained in.
    assert said(chosen.head, validation).dtype == np.float32


def test_a_head_is_the_one_that_a_bundle_names_by_its_kind(vit: ViT) -> None:
    kinds = {"linear": LinearProbe, "glori": GLoRI, "glori_pyramid": PyramidGLoRI}
    assert {kind: type(fresh_head(kind, vit, 3)()) for kind in get_args(HeadKind)} == kinds
    bundled = {kind.model_fields["kind"].default for kind in get_args(ClassificationHead)}
    assert bundled == set(kinds)
    assert PROTOCOLS == _PROTOCOLS


def test_unknown_labels_count_for_nothing_in_every_head() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    loss = masked_loss(logits, torch.tensor([[1.0, float("nan")], [float("nan"), 0.0]]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[True, False], [False, True]]
    assert float(loss.detach()) == pytest.approx(np.log(2))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_labels_are_drawn_by_whole_patients_with_every_target_among_them(share: float) -> None:
    rng = np.random.default_rng(0)
    owners = np.array([f"p{index // 3}" for index in range(900)])
    labels = (rng.random((900, 3)) < np.array([0.3, 0.1, 0.01])).astype(np.float32)
    labels[rng.random((900, 3)) < 0.1] = np.nan
    rows = drawn_rows(labels, owners, share, 0)
    patients = set(owners[rows])
    assert len(rows) == 3 * len(patients)
    assert len(patients) == pytest.approx(share * 300, abs=4)
    assert (np.nan_to_num(labels[rows]) > 0.5).any(axis=0).all()
    assert set(rows) <= set(drawn_rows(labels, owners, min(1.0, 2 * share), 0))
    if share < 1:
        assert set(rows) != set(drawn_rows(labels, owners, share, 1))


def test_lora_adapts_attention_and_feed_forward_alone_and_begins_as_the_network_itself(vit: ViT) -> None:
    adapted = copy.deepcopy(vit)
    names = add_lora(adapted, rank=4)
    assert sorted(names) == sorted(
        f"blocks.{block}.{layer}" for block in range(2) for layer in ("attn.qkv", "attn.proj", "mlp.w12", "mlp.w3")
    )
    learning = {name for name, each in adapted.named_parameters() if each.requires_grad}
    assert learning == {f"{name}.{part}" for name in names for part in ("down", "up")}
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    adapted.eval()
    with torch.inference_mode():
        assert torch.allclose(adapted(images).cls[-1], vit(images).cls[-1], atol=1e-6)
    layer = adapted.get_submodule(names[0])
    assert isinstance(layer, LoraLinear)
    with torch.no_grad():
        layer.up.fill_(0.1)
    with torch.inference_mode():
        assert not torch.allclose(adapted(images).cls[-1], vit(images).cls[-1], atol=1e-3)


def test_lora_is_refused_where_there_is_no_attention() -> None:
    with pytest.raises(ValueError, match="transformers"):
        add_lora(nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.parametrize("lora", [False, True])
def test_fine_tuning_learns_and_leaves_the_backbone_as_it_was(lora: bool, vit: ViT, store: Store) -> None:
    before = copy.deepcopy(vit.state_dict())
    parts = [LabelledImages(store, np.arange(s, s + 48), store.labels[s : s + 48, :1]) for s in (0, 48)]
    steps = 0

    def advance() -> None:
        nonlocal steps
        steps += 1

    settings = TuningSettings(steps=40, batch=16, rates=(3e-3,), lora=lora)
    # As a teacher comes out of its training.
    teacher = copy.deepcopy(vit).requires_grad_(False)
    chosen = tuned(teacher, parts[0], parts[1], _PREPROCESSING, settings, advance)
    network = chosen.network
    changed = {
        name
        for name, tensor in network.backbone.state_dict().items()
        if not torch.equal(tensor, before.get(name, tensor))
    }
    assert bool(changed) is not lora
    assert steps == 40
    assert macro_auroc(said_of_images(network, parts[1], _PREPROCESSING), parts[1].labels) == chosen.validation > 0.8
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("kind", METHODS)
def test_fresh_weights_learn_for_as_long_as_pre_training_and_fine_tuning_cost_together(kind: str) -> None:
    settings = TuningSettings(steps=5, batch=4, rates=(1e-3, 1e-2))
    recipe = tiny_recipe(kind)
    budget = equal_budget(recipe, settings)
    per_step = budget.tuning / settings.steps
    assert per_step * budget.steps == pytest.approx(budget.pretraining + budget.tuning, abs=per_step)
    # Twice the images cost twice as much, whatever the recipe sees of each.
    longer = recipe.model_copy(update={"stages": [recipe.stages[0].model_copy(update={"steps": 12})]})
    assert equal_budget(longer, settings).pretraining == pytest.approx(2 * budget.pretraining, rel=0.05)


def test_of_a_plain_transformer_the_operations_are_those_of_its_matrices() -> None:
    # 16 patches of 16 x 16 x 3 and a class token through 4 blocks of width 64: forward, and twice that for the
    # gradients, but that nobody asks for the image's.
    tokens, width, hidden, depth = 17, 64, 96, 4
    per_block = 2 * tokens * (4 * width * width + 2 * width * hidden) + 4 * tokens * tokens * width
    expected = 3 * depth * per_block + 2 * 2 * 16 * 768 * width
    budget = equal_budget(tiny_recipe("mae"), TuningSettings(steps=10, batch=2, rates=(1e-3,)))
    # The head, and the products that attention computes again for its gradients.
    assert budget.tuning / 20 == pytest.approx(expected, rel=0.03)


def test_steps_of_fresh_weights_are_given_or_computed_but_not_both() -> None:
    given = ["mae-small", "--out", "nowhere", "--equal-compute", "--scratch-steps", "9"]
    result = CliRunner().invoke(compare_command, given)
    assert result.exit_code == 2
    assert "--equal-compute" in result.output


def test_layer_decay_spares_what_pre_training_has_learned_and_never_fresh_weights(
    vit: ViT, store: Store, tmp_path: Path
) -> None:
    # Labels that no image tells: scores are neither 0.5 nor 1.
    noise = np.random.default_rng(0).integers(0, 2, (96, 2)).astype(np.float32)
    stores = dict.fromkeys(("train", "val", "test"), replace(store, labels=noise))
    # The same weights under both names.
    contestants = [Contestant(name, vit, _PREPROCESSING, "fresh") for name in ("learned", "fresh")]

    def scores(layer_decay: float) -> dict[str, float]:
        tuning = TuningSettings(steps=6, batch=16, rates=(3e-3,), layer_decay=layer_decay)
        settings = ComparisonSettings(("nodule",), ("finetune",), (1.0,), tuning=tuning)
        with Progress(disable=True) as progress:
            comparison = Comparer(stores, settings, tmp_path, progress).compare(contestants)  # type: ignore[arg-type]
        return {score.contestant: score.auroc for score in comparison.scores}

    without, strong = scores(1.0), scores(0.01)
    assert without["learned"] == without["fresh"] == strong["fresh"] != strong["learned"]


def test_a_difference_is_certain_only_when_it_is_there() -> None:
    rng = np.random.default_rng(0)
    owners = np.array([f"p{index // 2}" for index in range(300)])
    truth = (rng.random((300, 2)) < 0.3).astype(np.float32)
    good = truth + rng.normal(0, 0.8, (2, 300, 2))
    chance = rng.normal(0, 1, (2, 300, 2))
    sure = mean_difference(good, chance, truth, owners, comparisons=4)
    assert sure.excludes_zero
    assert sure.low < sure.value < sure.high
    assert not mean_difference(chance, rng.normal(0, 1, (2, 300, 2)), truth, owners).excludes_zero
    assert mean_score(good, truth, owners).low > 0.6
    single = mean_difference(good, chance, truth, owners)
    assert sure.high - sure.low > single.high - single.low


def test_intervals_are_those_of_the_resamples_themselves() -> None:
    rng = np.random.default_rng(0)
    owners = np.array([f"p{index // 3}" for index in range(60)])
    truth = (rng.random((60, 1)) < 0.4).astype(np.float32)
    # Rounded: scores that are equal count half.
    scores = np.round(truth + rng.normal(0, 1, (1, 60, 1)), 0)
    pairs = np.concatenate([scores[0], truth], axis=1)
    areas = [auroc(pairs[rows]) for rows in patient_resamples(60, owners)]
    figure = mean_score(scores, truth, owners)
    assert figure.value == pytest.approx(auroc(pairs))
    assert (figure.low, figure.high) == pytest.approx(tuple(np.nanpercentile(areas, [2.5, 97.5])))


def test_a_target_without_both_kinds_of_cases_is_left_out_of_the_mean() -> None:
    scores = np.array([[0.1, 5], [0.9, 5], [0.2, 5]])
    truth = np.array([[0, 0], [1, 0], [0, np.nan]], np.float32)
    assert macro_auroc(scores, truth) == 1.0
    assert np.isnan(macro_auroc(scores[:, 1:], truth[:, 1:]))


def test_a_comparison_says_of_every_backbone_what_it_gains_over_fresh_weights(
    vit: ViT, store: Store, tmp_path: Path
) -> None:
    fresh = copy.deepcopy(vit)
    with torch.no_grad():
        # Says nothing of any image.
        fresh.patch_embed.proj.weight.zero_()
    contestants = [
        Contestant("sees", vit, _PREPROCESSING, "blind"),
        Contestant("blind", fresh, _PREPROCESSING, "blind", tuning_steps=3),
    ]
    settings = ComparisonSettings(
        # Nobody knows of any mass: it is left out.
        targets=("nodule", "mass"),
        protocols=("linear", "finetune", "lora"),
        shares=(0.1, 1.0),
        draws=2,
        steps=120,
        tuning=TuningSettings(steps=2, batch=8, rates=(1e-3,)),
        across=(("drawn", "other"),),
    )
    stores = {"train": store, "val": drawn_store(48, seed=1), "test": drawn_store(48, seed=2)}
    with Progress(disable=True) as progress:
        comparison = Comparer(stores, settings, tmp_path / "features", progress).compare(contestants)  # type: ignore[arg-type]
    probed = [each for each in comparison.scores if each.protocol == "linear"]
    linear = {(each.contestant, each.share, each.across): each for each in probed}
    whole = linear["sees", 1.0, ""]
    assert whole.auroc > 0.9
    assert whole.gain is not None
    assert whole.gain_low is not None
    assert whole.gain_low > 0
    assert linear["blind", 1.0, ""].gain is None
    assert linear["sees", 1.0, "drawn to other"].labelled == 48
    assert linear["sees", 0.1, ""].draws == 2
    assert {each.protocol for each in comparison.scores} == {"linear", "finetune", "lora"}
    steps = {(each.contestant, each.steps) for each in comparison.scores if each.protocol == "finetune"}
    assert steps == {("sees", 2), ("blind", 3)}
    assert all(len(each.rates) == each.draws for each in comparison.scores)
    assert comparison.targets == ["nodule"]
    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison
    save_curves(comparison, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert comparison_table(comparison).row_count == len(comparison.scores)
