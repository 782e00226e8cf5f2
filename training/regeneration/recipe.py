"""The recipe of a bundle: everything that decides its weights, as a TOML file with a schema."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from schemas.bundle import Architecture, Population
from schemas.errors import SettingsError
from schemas.preprocessing import Preprocessing
from training.curation.settings import CurationSettings
from training.examples.filling import Placing
from training.examples.store import DETAIL_CROP
from training.examples.targets import TARGETS
from training.learning.loop import LearningSettings
from training.pretraining.recipe import PretrainingRecipe, find_pretraining_recipe
from training.regeneration.gate import GateRules
from training.regeneration.initial_backbone import check_pretraining


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BundleTable(_Table):
    name: str
    version: str
    licence: str


class NetworkTable(_Table):
    """See training/regeneration/look_manifest.py."""

    backbone: Architecture
    preprocessing: Preprocessing
    #: Arguments of the heads, see workers.networks.
    glori: dict[str, Any] = Field(default_factory=dict)
    dense: dict[str, Any] = Field(default_factory=dict)
    second_look: dict[str, Any] = Field(default_factory=dict)
    #: What the model is to answer (training/examples/targets.py), as far as the data teach it.
    classes: list[str] = list(TARGETS)
    #: Side of the square that the second look's crop is cut from, pixels.
    detail_size: Annotated[int, Field(ge=DETAIL_CROP, le=4096)] = 1024

    @field_validator("classes")
    @classmethod
    def _are_targets(cls, classes: list[str]) -> list[str]:
        if unknown := sorted(set(classes) - set(TARGETS)):
            raise ValueError(f"no class is called {', '.join(unknown)}")
        return classes


class PoolTable(_Table):
    #: Phantoms to learn from, then phantoms to choose operating points on; seeds count up from `first_seed`.
    training: Annotated[int, Field(ge=1)]
    validation: Annotated[int, Field(ge=1)]
    first_seed: Annotated[int, Field(ge=0)]


class EvaluationTable(_Table):
    #: Fresh phantoms; their seeds must lie outside the pool's.
    count: Annotated[int, Field(ge=1)]
    first_seed: Annotated[int, Field(ge=0)]


class SourceTable(_Table):
    """Real radiographs that are learned from wherever their folder is given, and left out where it is not."""

    #: KIND or KIND:NAME of `chexnode train curate --list`; the folder is given with --source or training.sources.
    source: str
    #: How often an example is drawn from it, in proportion to the phantoms (1). 0: it is only measured on.
    weight: Annotated[float, Field(ge=0)]


class PretrainingTable(_Table):
    """What the backbone learns without labels, before the first look; see docs/pretraining.md.

    The sources of its recipe are read as far as this recipe learns from them, from this recipe's curation: its own
    `data.curation` decides nothing here, and no image of a validation or test patient is learned from.
    """

    #: A name of `chexnode train pretrain --list`, a file (relative to this recipe's), or the recipe itself as a table.
    recipe: PretrainingRecipe

    @field_validator("recipe", mode="before")
    @classmethod
    def _read(cls, recipe: Any, info: ValidationInfo) -> Any:
        return (
            find_pretraining_recipe(recipe, (info.context or {}).get("folder")) if isinstance(recipe, str) else recipe
        )


class LookTable(_Table):
    """One training; see training/learning/loop.py."""

    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warm_up_steps: Annotated[int, Field(ge=0)] = 60
    seed: int = 0
    #: Steps between two checkpoints: what a killed training loses at most.
    checkpoint_every: Annotated[int, Field(ge=1)] = 50

    @property
    def settings(self) -> LearningSettings:
        return LearningSettings(**self.model_dump())


class CalibrationTable(_Table):
    #: That operating points are chosen for, at least; and by class where it is another one.
    sensitivity: Annotated[float, Field(gt=0, lt=1)] = 0.9
    sensitivities: dict[str, float] = Field(default_factory=dict)
    #: Of classes without a sensitivity of their own: below it there is no operating point.
    least_specificity: Annotated[float, Field(ge=0, lt=1)] = 0.5
    #: Classes that have none whatever validation says, each with the reason.
    withheld: dict[str, str] = Field(default_factory=dict)


class Recipe(_Table):
    """One recipe file: two looks, learned from phantoms and from real radiographs."""

    bundle: BundleTable
    network: NetworkTable
    population: Population
    #: Of the training family; evaluation is on the frozen one.
    phantoms: PoolTable
    sources: list[SourceTable] = Field(default_factory=list)
    #: How often an example is drawn from the phantoms. 0: radiographs alone are learned from; without the truth that
    #: only phantoms have there is then no second look.
    phantom_weight: Annotated[float, Field(ge=0)] = 1.0
    #: Of the sources. Weights that are shipped are learned from clean licences only.
    curation: CurationSettings = CurationSettings(clean_only=True)
    #: None: the backbone begins as it is drawn.
    pretraining: PretrainingTable | None = None
    first_look: LookTable
    second_look: LookTable
    calibration: CalibrationTable = CalibrationTable()
    evaluation: EvaluationTable
    #: None: nothing is asked of the bundle, and it is never registered.
    gate: GateRules | None = None

    @property
    def shares(self) -> list[SourceTable]:
        """What decides how often an example is drawn from where: the sources, and phantoms of another weight than 1."""
        if self.phantom_weight == 1:
            return self.sources
        return [*self.sources, SourceTable(source="phantoms", weight=self.phantom_weight)]

    @property
    def placing(self) -> Placing:
        return Placing(self.network.preprocessing, self.network.detail_size)

    def with_limits(self, steps: int | None, pool: int | None) -> "Recipe":
        """The same recipe, shorter: at most so many steps and phantoms of each training, the rest in proportion.

        A rehearsal has no gate: what it makes is not registered.
        """
        changes: dict[str, Any] = {}
        if steps is not None:
            for look in ("first_look", "second_look"):
                table = getattr(self, look)
                changes[look] = table.model_copy(update={"steps": min(steps, table.steps)})
        if pool is not None and pool < self.phantoms.training:
            shares = [
                max(8, n * pool // self.phantoms.training) for n in (self.phantoms.validation, self.evaluation.count)
            ]
            changes["phantoms"] = self.phantoms.model_copy(update={"training": pool, "validation": shares[0]})
            changes["evaluation"] = self.evaluation.model_copy(update={"count": shares[1]})
        if self.pretraining is not None and (steps is not None or pool is not None):
            shorter = self.pretraining.recipe.with_limits(steps, pool)
            changes["pretraining"] = self.pretraining.model_copy(update={"recipe": shorter})
        if changes:
            changes["gate"] = None
            # So that nobody takes it for the bundle of the whole recipe.
            changes["bundle"] = self.bundle.model_copy(update={"version": f"{self.bundle.version[:8]}-reduced"})
        return self.model_copy(update=changes)


def default_recipe() -> Path:
    """The recipe of the shipped bundle."""
    return Path(__file__).parent / "recipes" / "reference.toml"


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe. Raises SettingsError that names the key at fault, or seeds that overlap."""
    return parse_recipe(read_text(path), str(path), path.parent)


def read_text(path: Path) -> str:
    """The text of a recipe file. Raises SettingsError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8: {error.reason} at byte {error.start}.") from error


def parse_recipe(text: str, origin: str, folder: Path | None = None) -> Recipe:
    """The recipe in TOML `text`, which came from `origin`. Raises SettingsError as `read_recipe` does.

    Parameters
    ----------
    folder : where files lie that it names
    """
    try:
        recipe = Recipe.model_validate(tomllib.loads(text), context={"folder": folder})
        check_pretraining(recipe)
    except (tomllib.TOMLDecodeError, ValidationError, SettingsError) as error:
        raise SettingsError(f"{origin}: {error}") from error
    pool = recipe.phantoms
    pool_end = pool.first_seed + pool.training + pool.validation
    evaluation_end = recipe.evaluation.first_seed + recipe.evaluation.count
    if recipe.evaluation.first_seed < pool_end and pool.first_seed < evaluation_end:
        raise SettingsError(
            f"{origin}: the evaluation's seeds overlap the pool's; phantoms seen in training prove nothing."
        )
    return recipe
