from pathlib import Path

import pytest

from schemas.errors import SettingsError
from training.regeneration.recipe import default_recipe, read_recipe
from training.sources.catalogue import FOLDERS


def test_the_shipped_recipe_is_valid_and_can_be_shortened() -> None:
    recipe = read_recipe(default_recipe())
    short = recipe.with_limits(steps=2, pool=56)
    assert (short.first_look.steps, short.second_look.steps) == (2, 2)
    assert (short.phantoms.training, short.phantoms.validation) == (56, 8)
    assert short.gate is None and short.bundle.version.endswith("-reduced")
    assert recipe.with_limits(None, None) == recipe


def test_an_unknown_key_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(default_recipe().read_text(encoding="utf-8") + "\nsed = 5\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="sed"):
        read_recipe(path)


def test_evaluating_on_training_seeds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    text = default_recipe().read_text(encoding="utf-8").replace("first_seed = 1_000_000", "first_seed = 5_999")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="overlap"):
        read_recipe(path)


@pytest.mark.parametrize("name", ["reference.toml", "reference-gpu.toml", "reference-pretrained.toml"])
def test_the_reference_recipes_are_valid_judge_by_six_metrics_at_most_and_learn_from_clean_licences(name: str) -> None:
    recipe = read_recipe(default_recipe().with_name(name))
    assert recipe.gate is not None and 1 <= len(recipe.gate.metrics) <= 6
    assert recipe.curation.clean_only
    assert {each.source for each in recipe.sources} <= set(FOLDERS)


def test_more_than_six_primary_metrics_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    text = default_recipe().read_text(encoding="utf-8")
    more = '[[gate.metrics]]\nstatistic = "mean"\nfigure = "Dice heart"\nbetter = "higher"\nmargin = 1\nlimit = 0\n'
    path.write_text(text + "\n" + 6 * more, encoding="utf-8")
    with pytest.raises(SettingsError, match="at most 6"):
        read_recipe(path)
