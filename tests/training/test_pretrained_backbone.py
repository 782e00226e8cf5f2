"""The first look begins with what the recipe's pre-training has learned, and with nothing of patients held out."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from schemas.errors import SettingsError
from tests.training.pretraining.tiny import tiny_recipe
from tests.training.tiny_recipe import TINY_TOML
from training.curation.curate import Curation
from training.curation.manifest import CuratedImage
from training.curation.settings import CurationSettings
from training.learning.looks import fit_first_look
from training.pretraining import trainer
from training.pretraining.checkpoint import keep
from training.pretraining.export import kept_backbone, write_backbone_bundle
from training.pretraining.filling import Filling
from training.pretraining.images import learned_images
from training.pretraining.positions import resampled
from training.progress import training_progress
from training.regeneration import initial_backbone, look_making
from training.regeneration.recipe import Recipe, default_recipe, parse_recipe, read_recipe
from training.regeneration.regenerate import Regenerated, regenerate
from training.sources.source import Sample, Split
from workers.bundle import load_bundle
from workers.networks.network import Network

_SMALL = {"timm_name": "hybrid_vit_tiny_patch16", "arguments": {"width": 64, "depth": 4}}
_GREY = {"profile": "letterbox", "size": 48, "mean": [0.5], "std": [0.25]}
_PHANTOMS = {"training": 8, "film_side": 256}


def _pretraining(**changes: Any) -> dict[str, Any]:
    """MoCo of the tiny regeneration's backbone, at another size than it is used at: positions have to be resampled."""
    stage = {"name": "32", "sizes": [32], "steps": 4, "warm_up_steps": 1, "batch": 4}
    tables: dict[str, Any] = {
        "backbone": _SMALL,
        "preprocessing": _GREY,
        "stages": [stage],
        "data": {"phantoms": _PHANTOMS, "sources": ["folder"]},
        "checkpoint_every": 1,
        "precision": "float32",
    }
    recipe = tiny_recipe("moco_v2", **{**tables, **changes})
    plain: dict[str, Any] = recipe.model_dump(mode="json")
    return plain


def _recipe(**changes: Any) -> Recipe:
    text = TINY_TOML.replace("steps = 20", "steps = 2").replace("count = 4", "count = 2")
    base = parse_recipe(text, "tiny.toml")
    plain = base.model_dump(mode="json") | {"gate": None, "pretraining": {"recipe": _pretraining(**changes)}}
    return Recipe.model_validate(plain)


class _KilledError(Exception):
    """While the backbone was pre-trained."""


@pytest.fixture(scope="module")
def begun() -> list[dict[str, torch.Tensor]]:
    """The backbone's weights as each first look began."""
    return []


@pytest.fixture(scope="module")
def learned() -> list[dict[str, torch.Tensor]]:
    """What each pre-training has kept."""
    return []


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(cache: Path, begun: list[dict[str, torch.Tensor]], learned: list[dict[str, torch.Tensor]]) -> Regenerated:
    """In two attempts: the first one ends after the second step of its pre-training."""
    patched = pytest.MonkeyPatch()
    fit = fit_first_look

    def keep_and_die(*state: Any) -> None:
        keep(*state)
        if state[2] == 2:
            raise _KilledError

    def watched(network: Network, *others: Any) -> Any:
        begun.append({name: tensor.clone() for name, tensor in network.backbone.state_dict().items()})
        return fit(network, *others)

    def copied(trained: Any, folder: Path) -> Any:
        learned.append(kept_backbone(trained).state_dict())
        return write(trained, folder)

    write = write_backbone_bundle
    try:
        patched.setattr(look_making, "fit_first_look", watched)
        patched.setattr(initial_backbone, "write_backbone_bundle", copied)
        with patched.context() as killing, pytest.raises(_KilledError):
            killing.setattr(trainer, "keep", keep_and_die)
            regenerate(_recipe(), cache, Console(quiet=True))
        (partial,) = (cache / "stages").glob("pretrain-*.partial")
        assert (partial / "1-32" / "checkpoint.pt").exists()
        return regenerate(_recipe(), cache, Console(quiet=True))
    finally:
        patched.undo()


def test_the_first_look_begins_with_every_tensor_of_the_pre_training_and_positions_of_its_own_size(
    made: Regenerated, begun: list[dict[str, torch.Tensor]], learned: list[dict[str, torch.Tensor]]
) -> None:
    (first,), (kept,) = begun, learned
    assert first.keys() == kept.keys()
    for name, tensor in kept.items():
        if name == "pos_embed":
            assert tensor.shape[1] == 1 + 4 and first[name].shape[1] == 1 + 16
            tensor = resampled(tensor, 17)
        assert torch.equal(first[name], tensor), name


def test_interrupted_it_ends_in_the_weights_of_one_that_was_not_and_keeps_no_images(
    made: Regenerated, cache: Path, tmp_path: Path
) -> None:
    (stage,) = (cache / "stages").glob("pretrain-*/")
    assert {path.name for path in stage.iterdir()} == {"bundle", "curve.json", "stage.json"}
    steps = [point["step"] for point in json.loads((stage / "curve.json").read_text())]
    assert steps[-1] == 3
    wanted = _recipe().pretraining
    assert wanted is not None
    with training_progress(Console(quiet=True)) as progress:
        initial_backbone.pretrain_backbone(wanted.recipe, None, [], tmp_path, progress)
    ours, theirs = (load_bundle(folder / "bundle").network.state_dict() for folder in (stage, tmp_path))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], msg=name)


def test_manifest_card_and_report_say_what_the_backbone_was_pre_trained_with(made: Regenerated) -> None:
    manifest = made.bundle.manifest
    said = manifest.training["pretraining"]
    assert said == {"method": "moco_v2", "recipe": "tiny-moco-v2", "version": "0", "data": "8 simulated radiographs"}
    assert "pretrain" in manifest.training["stages"]
    assert "pre-trained without labels: moco_v2, recipe tiny-moco-v2 0" in (made.bundle.folder / "card.md").read_text()
    assert "<td>pretrain</td>" in made.report.read_text(encoding="utf-8")


def test_another_pre_training_is_another_stage_and_the_same_one_is_found(made: Regenerated, cache: Path) -> None:
    before = set((cache / "stages").glob("pretrain-*"))
    again = regenerate(_recipe(), cache, Console(quiet=True))
    assert again.bundle.digest == made.bundle.digest
    assert set((cache / "stages").glob("pretrain-*")) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": {"timm_name": "chexnode_resnet18", "arguments": {}}}, "network.backbone.timm_name"),
        ({"backbone": {**_SMALL, "arguments": {"width": 128, "depth": 4}}}, "network.backbone.arguments.width"),
        ({"backbone": {**_SMALL, "arguments": {"width": 64, "depth": 5}}}, "network.backbone.arguments.depth"),
        ({"data": {"phantoms": {**_PHANTOMS, "first_seed": 44}}}, "phantoms.validation"),
        ({"data": {"phantoms": {**_PHANTOMS, "first_seed": 1000}}}, "overlaps evaluation"),
    ],
)
def test_a_pre_training_that_does_not_fit_is_refused_before_anything_is_made(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=said):
        regenerate(_recipe(**changes), tmp_path, Console(quiet=True))
    assert not list((tmp_path / "stages").iterdir())


def test_a_tensor_that_the_backbone_does_not_have_is_named() -> None:
    pretraining = _recipe().pretraining
    assert pretraining is not None
    recipe = pretraining.recipe
    backbone = recipe.create(recipe.stages[0]).kept
    with pytest.raises(SettingsError, match="cls_token"):
        initial_backbone.fitted({k: v for k, v in backbone.state_dict().items() if k != "cls_token"}, backbone)


def test_only_training_patients_of_the_wanted_sources_are_read(tmp_path: Path) -> None:
    pretraining = _recipe(data={"sources": ["folder"]}).pretraining
    assert pretraining is not None

    def sample(source: str, key: str) -> Sample:
        return Sample(
            source=source, key=key, patient=key, licence="CC0", read=lambda: np.full((64, 64), 0.5, np.float32)
        )

    def image(source: str, key: str, split: Split | None) -> CuratedImage:
        return CuratedImage(
            source=source,
            key=key,
            patient=key,
            licence="CC0",
            sha256=None,
            frequencies=None,
            rows=64,
            columns=64,
            view=None,
            age_years=None,
            sex=None,
            published=None,
            split=split,
            excluded=None,
            labels={},
            masks={},
        )

    rows: list[tuple[str, str, Split | None]] = [
        ("folder", "a", "train"),
        ("folder", "b", "val"),
        ("folder", "c", "test"),
        ("folder", "d", None),
        ("nih", "e", "train"),
    ]
    curation = Curation(
        [image(*row) for row in rows], [sample(source, key) for source, key, _ in rows], "0" * 64, 0, CurationSettings()
    )
    with training_progress(Console(quiet=True)) as progress:
        filling = Filling(pretraining.recipe.preprocessing, progress)
        store = learned_images(pretraining.recipe, curation, ["folder"], tmp_path, filling)
        assert store.document.sources == ["folder"] and len(store) == 1
        with pytest.raises(SettingsError, match="nothing to learn from"):
            learned_images(pretraining.recipe, None, [], tmp_path, filling)


def test_a_recipe_names_its_pre_training_or_a_file_beside_it(tmp_path: Path) -> None:
    shipped = read_recipe(default_recipe().with_name("reference-pretrained.toml"))
    assert shipped.pretraining is not None and shipped.pretraining.recipe.name == "moco-hybrid-small"
    text = default_recipe().with_name("reference-pretrained.toml").read_text(encoding="utf-8")
    named = Path(initial_backbone.__file__).parents[1] / "pretraining" / "recipes" / "moco-hybrid-small.toml"
    shutil.copy(named, tmp_path / "own.toml")
    (tmp_path / "bundle.toml").write_text(text.replace('"moco-hybrid-small"', '"own.toml"'), encoding="utf-8")
    assert read_recipe(tmp_path / "bundle.toml") == shipped
    (tmp_path / "bundle.toml").write_text(text.replace('"moco-hybrid-small"', '"gone.toml"'), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"gone\.toml"):
        read_recipe(tmp_path / "bundle.toml")


def test_a_rehearsal_shortens_the_pre_training_too() -> None:
    recipe = _recipe()
    short = recipe.with_limits(1, 4)
    assert short.pretraining is not None and short.pretraining.recipe.data.phantoms is not None
    assert [stage.steps for stage in short.pretraining.recipe.stages] == [1]
    assert short.pretraining.recipe.data.phantoms.training == 4
    assert short.gate is None and short.bundle.version.endswith("-reduced")
