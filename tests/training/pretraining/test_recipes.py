"""The recipes that come with the software are what the papers say, and a recipe with a mistake is refused."""

from pathlib import Path

import pytest
import torch

from schemas.errors import SettingsError
from training.pretraining.dinov2 import Dinov2Settings
from training.pretraining.moco_v2 import MocoSettings
from training.pretraining.recipe import PretrainingRecipe, read_pretraining_recipe, shipped_recipes

_SHIPPED = shipped_recipes()
_TWINS = {"chexfound": "dinov2-small", "cxrbase": "mae-small", "spcxr": "gmml-small", "chess": "moco-small"}


def _recipe(name: str) -> PretrainingRecipe:
    return read_pretraining_recipe(_SHIPPED[name])


def test_chexfounds_rates_are_those_of_its_configurations() -> None:
    recipe = _recipe("chexfound")
    peaks = [recipe.optimizer.peak(stage.batch) for stage in recipe.stages]
    assert peaks == pytest.approx([1.09e-4, 6.12e-5, 6.61e-5, 5.59e-5], rel=5e-3)
    assert [stage.sizes[0] for stage in recipe.stages] == [224, 336, 448, 512]
    method = recipe.method
    assert isinstance(method, Dinov2Settings)
    assert (method.prototypes, method.head_bottleneck, method.patch_head_bottleneck) == (131072, 384, 256)
    # A fault in DINOv2 exchanges its probabilities of blur: this is what was trained.
    assert [view.blur for view in method.views] == [0, 0.9, 0.5]


@pytest.mark.parametrize("name", sorted(_SHIPPED))
def test_every_shipped_recipe_makes_its_networks_and_mirrors_nothing(name: str) -> None:
    recipe = _recipe(name)
    assert recipe.name == name
    assert all(view.flip == 0 for view in recipe.method.views)
    with torch.device("meta"):
        # The first stage is enough: the others differ in their positions.
        assert any(each.requires_grad for each in recipe.create(recipe.stages[0]).parameters())


@pytest.mark.parametrize(("large", "small"), sorted(_TWINS.items()))
def test_every_published_recipe_has_a_twin_for_two_cores(large: str, small: str) -> None:
    recipe, twin = _recipe(large), _recipe(small)
    assert twin.method.kind == recipe.method.kind
    assert twin.stages[-1].sizes[0] == 128
    assert twin.backbone.arguments.get("embed_dim", 192) == 192
    assert twin.data.phantoms is not None
    if isinstance(twin.method, MocoSettings):
        assert twin.method.batch_norm_groups >= 2
    if isinstance(twin.method, Dinov2Settings):
        assert twin.method.prototypes == 4096


@pytest.mark.parametrize(
    ("line", "changed", "said"),
    [
        ("decoder_depth = 2", "decoder_layers = 2", "decoder_layers"),
        ("sizes = [128]", "sizes = [128, 96]", "1 views"),
        ("sizes = [128]", "sizes = [100]", "multiples of 16"),
        ('kind = "mae"', 'kind = "mea"', "mea"),
        ("warm_up_steps = 450", "warm_up_steps = 4500", "warm-up"),
        ('"consolidation"', '"consolidated"', "consolidated"),
        ("in_chans = 3", "in_chans = 1", "in_chans"),
    ],
)
def test_a_mistake_in_a_recipe_is_an_error_that_names_it(line: str, changed: str, said: str, tmp_path: Path) -> None:
    text = _SHIPPED["mae-small"].read_text()
    assert line in text
    path = tmp_path / "recipe.toml"
    path.write_text(text.replace(line, changed))
    with pytest.raises(SettingsError, match=said):
        read_pretraining_recipe(path)


def test_a_network_that_does_not_exist_is_named() -> None:
    recipe = _recipe("mae-small")
    backbone = recipe.backbone.model_copy(update={"timm_name": "vit_tiny_patch16_224"})
    other = recipe.model_copy(update={"backbone": backbone})
    with pytest.raises(SettingsError, match="vit_tiny_patch16_224"):
        other.create(other.stages[0])


def test_a_rehearsal_is_shorter_and_says_so() -> None:
    short = _recipe("dinov2-small").with_limits(5, 20)
    assert [stage.steps for stage in short.stages] == [5]
    assert short.data.phantoms is not None
    assert short.data.phantoms.training == 20
    assert short.version.endswith("reduced")
