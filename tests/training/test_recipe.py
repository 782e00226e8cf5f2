from pathlib import Path

import pytest

from schemas.errors import SettingsError
from training.recipe import default_recipe, read_recipe


def test_the_shipped_recipe_is_valid_and_can_be_shortened() -> None:
    recipe = read_recipe(default_recipe())
    short = recipe.with_limits(steps=2, pool=56)
    assert (short.training.steps, short.pool.training, short.pool.validation) == (2, 56, 8)
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
