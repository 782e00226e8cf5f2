"""The recipe of a bundle: everything that decides its weights, as a TOML file with a schema."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.bundle import Architecture, Population
from schemas.errors import SettingsError
from schemas.preprocessing import Preprocessing
from training.pool import PoolSettings


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BundleTable(_Table):
    name: str
    version: str
    licence: str


class NetworkTable(_Table):
    backbone: Architecture
    preprocessing: Preprocessing
    #: Arguments of the heads, see workers.networks.
    glori: dict[str, Any] = Field(default_factory=dict)
    dense: dict[str, Any] = Field(default_factory=dict)


class PoolTable(_Table):
    #: Phantoms to learn from, then phantoms to choose operating points on; seeds count up from `first_seed`.
    training: Annotated[int, Field(ge=1)]
    validation: Annotated[int, Field(ge=1)]
    first_seed: Annotated[int, Field(ge=0)]


class TrainingTable(_Table):
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    warm_up_steps: Annotated[int, Field(ge=0)]
    seed: int


class EvaluationTable(_Table):
    #: Fresh phantoms; their seeds must lie outside the pool's.
    count: Annotated[int, Field(ge=1)]
    first_seed: Annotated[int, Field(ge=0)]


class Recipe(_Table):
    """One recipe file."""

    bundle: BundleTable
    network: NetworkTable
    population: Population
    pool: PoolTable
    training: TrainingTable
    evaluation: EvaluationTable

    @property
    def pool_settings(self) -> PoolSettings:
        return PoolSettings(
            preprocessing=self.network.preprocessing,
            count=self.pool.training + self.pool.validation,
            first_seed=self.pool.first_seed,
        )

    def with_limits(self, steps: int | None, pool: int | None) -> "Recipe":
        """The same recipe, shorter: at most so many steps and training phantoms, the other parts in proportion."""
        changes: dict[str, Any] = {}
        if steps is not None:
            changes["training"] = self.training.model_copy(update={"steps": min(steps, self.training.steps)})
        if pool is not None and pool < self.pool.training:
            shares = [max(8, n * pool // self.pool.training) for n in (self.pool.validation, self.evaluation.count)]
            changes["pool"] = self.pool.model_copy(update={"training": pool, "validation": shares[0]})
            changes["evaluation"] = self.evaluation.model_copy(update={"count": shares[1]})
        if changes:
            # So that nobody takes it for the bundle of the whole recipe.
            changes["bundle"] = self.bundle.model_copy(update={"version": f"{self.bundle.version[:8]}-reduced"})
        return self.model_copy(update=changes)


def default_recipe() -> Path:
    """The recipe of the shipped bundle."""
    return Path(__file__).parent / "recipes" / "phantom.toml"


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe. Raises SettingsError that names the key at fault, or seeds that overlap."""
    try:
        recipe = Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise SettingsError(f"{path}: {error}") from error
    pool_end = recipe.pool.first_seed + recipe.pool.training + recipe.pool.validation
    evaluation_end = recipe.evaluation.first_seed + recipe.evaluation.count
    if recipe.evaluation.first_seed < pool_end and recipe.pool.first_seed < evaluation_end:
        raise SettingsError(
            f"{path}: the evaluation's seeds overlap the pool's; phantoms seen in training prove nothing."
        )
    return recipe
