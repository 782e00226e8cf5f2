"""The recipe of a pre-training: everything that decides its weights, as a TOML file with a schema.

An unknown key is an error. The recipes of the published systems and their small twins lie in recipes/.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.bundle import Architecture
from schemas.errors import SettingsError
from schemas.preprocessing import Preprocessing
from training.curation.settings import CurationSettings
from training.examples.targets import TARGETS
from training.pretraining.dinov2 import Dinov2, Dinov2Settings
from training.pretraining.encoder import create_encoder
from training.pretraining.gmml import Gmml, GmmlSettings
from training.pretraining.mae import Mae, MaeSettings
from training.pretraining.method import Method
from training.pretraining.moco_v2 import MocoSettings, MocoV2
from training.pretraining.schedule import Ramp
from training.pretraining.sit import Sit, SitSettings

_MethodTable: TypeAlias = Annotated[
    Dinov2Settings | MaeSettings | GmmlSettings | SitSettings | MocoSettings, Field(discriminator="kind")
]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OptimizerTable(_Table):
    kind: Literal["adamw", "sgd"] = "adamw"
    #: Peak rate at a global batch of `reference_batch`; other batches scale it.
    rate: Annotated[float, Field(gt=0)]
    reference_batch: Annotated[int, Field(ge=1)] = 256
    scaling: Literal["linear", "sqrt"] = "linear"
    #: Where the cosine ends.
    end_rate: Annotated[float, Field(ge=0)] = 0.0
    weight_decay: Ramp
    #: AdamW's; of SGD the first one is the momentum.
    betas: tuple[float, float] = (0.9, 0.999)
    #: Greatest norm of the gradient; None: any.
    clipped_at: Annotated[float, Field(gt=0)] | None = None
    #: Factor of the patch embedding's rate.
    patch_embedding: Annotated[float, Field(gt=0)] = 1.0

    def peak(self, batch: int) -> float:
        ratio = batch / self.reference_batch
        return self.rate * (ratio if self.scaling == "linear" else ratio**0.5)


class StageTable(_Table):
    """One training at one size; optimizer and schedules begin anew in each."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    #: Pixels of each of the method's views; the first is the side that positions are learned for.
    sizes: Annotated[list[Annotated[int, Field(ge=32, le=1024)]], Field(min_length=1)]
    steps: Annotated[int, Field(ge=1)]
    warm_up_steps: Annotated[int, Field(ge=0)]
    #: Images per step, over all processes.
    batch: Annotated[int, Field(ge=2)]
    #: What becomes of the positions of the stage before: learned anew, or resampled.
    positions: Literal["drop", "interpolate"] = "drop"


class PhantomTable(_Table):
    """Simulated radiographs; of the frozen family where nothing is learned from them."""

    training: Annotated[int, Field(ge=1)]
    validation: Annotated[int, Field(ge=1)] = 400
    test: Annotated[int, Field(ge=1)] = 800
    first_seed: Annotated[int, Field(ge=0)] = 0
    #: Longer side of a film in pixels. Fine lines on films much larger than the network's input are lost on the way.
    film_side: Annotated[int, Field(ge=256)] = 1100


class DataTable(_Table):
    phantoms: PhantomTable | None = None
    #: Kinds of sources (chexnode train curate --list) whose folders are given with --source. Patients of their test
    #: part never enter.
    sources: list[str] = Field(default_factory=list)
    #: Settings of the curation: shares of the split, views, licences.
    curation: CurationSettings = CurationSettings()


class ProbeTable(_Table):
    """What is asked of the features while they are learned: neighbours and a linear layer, on validation images."""

    every: Annotated[int, Field(ge=1)] = 500
    targets: list[str]

    @model_validator(mode="after")
    def _known(self) -> Self:
        if unknown := sorted(set(self.targets) - set(TARGETS)):
            raise ValueError(f"no class is called {', '.join(unknown)}")
        return self


class PretrainingRecipe(_Table):
    """One recipe file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    version: Annotated[str, Field(max_length=16)]
    licence: str
    seed: int = 0
    precision: Literal["bf16", "float32"] = "bf16"
    #: Steps between two checkpoints: what a killed training loses at most.
    checkpoint_every: Annotated[int, Field(ge=1)] = 200
    backbone: Architecture
    preprocessing: Preprocessing
    method: _MethodTable
    optimizer: OptimizerTable
    stages: Annotated[list[StageTable], Field(min_length=1)]
    data: DataTable
    probe: ProbeTable | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        views = len(self.method.views)
        for stage in self.stages:
            if len(stage.sizes) != views:
                raise ValueError(f"stage {stage.name} has {len(stage.sizes)} sizes for {views} views")
            if any(size % 16 for size in stage.sizes):
                raise ValueError(f"stage {stage.name}: sizes {stage.sizes} are not multiples of 16")
            if stage.warm_up_steps >= stage.steps:
                raise ValueError(f"stage {stage.name} has no step after its warm-up")
        if len({stage.name for stage in self.stages}) < len(self.stages):
            raise ValueError("two stages have one name")
        if isinstance(self.method, MocoSettings) and any(self.method.queue % stage.batch for stage in self.stages):
            raise ValueError(f"the queue of {self.method.queue} is no multiple of the batch")
        try:
            # Without weights, so that it takes no time.
            with torch.device("meta"):
                channels = create_encoder(self.backbone, self.stages[0].sizes[0]).channels
        except SettingsError as error:
            raise ValueError(str(error)) from error
        if channels != self.preprocessing.channels:
            raise ValueError(
                f"the backbone takes {channels} channels (backbone.arguments.in_chans), preprocessing gives "
                f"{self.preprocessing.channels}"
            )
        return self

    def with_limits(self, steps: int | None, images: int | None) -> "PretrainingRecipe":
        """A rehearsal: at most so many steps in each stage, and so many phantoms."""
        changes: dict[str, Any] = {}
        if steps is not None:
            changes["stages"] = [_shortened(stage, steps) for stage in self.stages]
        if images is not None and self.data.phantoms is not None:
            table = self.data.phantoms
            fewer = {part: min(getattr(table, part), images) for part in ("training", "validation", "test")}
            changes["data"] = self.data.model_copy(update={"phantoms": table.model_copy(update=fewer)})
        if changes:
            changes["version"] = f"{self.version[:8]}-reduced"
        return self.model_copy(update=changes)

    def create(self, stage: StageTable) -> Method:
        """The method with fresh weights for a stage. Raises SettingsError when there is no such network."""
        side, settings = stage.sizes[0], self.method
        if isinstance(settings, Dinov2Settings):
            return Dinov2(settings, self.backbone, side)
        if isinstance(settings, MaeSettings):
            return Mae(settings, self.backbone, side)
        if isinstance(settings, GmmlSettings):
            return Gmml(settings, self.backbone, side)
        if isinstance(settings, SitSettings):
            return Sit(settings, self.backbone, side)
        return MocoV2(settings, self.backbone, side)


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the software, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}


def find_pretraining_recipe(text: str, beside: Path | None = None) -> PretrainingRecipe:
    """A shipped recipe by name, or the one in a file; a relative path is looked for in the folder `beside`.

    Raises SettingsError.
    """
    shipped = shipped_recipes()
    path = shipped.get(text, Path(text) if beside is None else beside / text)
    if not path.is_file():
        raise SettingsError(f"{text} is neither a file nor one of the recipes {', '.join(shipped)}.")
    return read_pretraining_recipe(path)


def read_pretraining_recipe(path: Path) -> PretrainingRecipe:
    """Read and check a recipe. Raises SettingsError that names the key at fault."""
    try:
        return PretrainingRecipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise SettingsError(f"{path}: {error}") from error


def _shortened(stage: StageTable, steps: int) -> StageTable:
    if steps >= stage.steps:
        return stage
    return stage.model_copy(update={"steps": steps, "warm_up_steps": min(stage.warm_up_steps, steps - 1)})
