"""From what a pre-training has kept to a bundle, or to the layout that the system was published in.

Called by `chexnode train export`.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from schemas.bundle import Manifest, Population
from schemas.errors import BundleMakingError, SettingsError
from schemas.preprocessing import Preprocessing
from training.pretraining import layouts
from training.pretraining.checkpoint import Trained, read_trained
from training.pretraining.encoder import architecture_at
from training.pretraining.recipe import PretrainingRecipe, StageTable
from workers.bundle import LoadedBundle, write_bundle
from workers.checkpoints.importing import selftest_images
from workers.networks.features import Backbone
from workers.networks.network import build_network

Layout = Literal["bundle", "published", "hugging-face"]

#: Greatest difference of an output that another computer may show in float32.
_TOLERANCE = 1e-3
_PUBLISHED = {
    "dinov2": layouts.chexfound_drive,
    "mae": layouts.mae,
    "gmml": layouts.gmml,
    "sit": layouts.sit,
    "moco_v2": layouts.moco,
}


def export(trained_file: Path, out: Path, layout: Layout) -> None:
    """Write what a pre-training has kept to `out`: a folder for a bundle, otherwise a file.

    Raises SettingsError for a file that is none, BundleMakingError where the layout does not fit the method.
    """
    trained = read_trained(trained_file)
    recipe = recipe_of(trained)
    kind = recipe.method.kind
    if layout == "bundle":
        write_backbone_bundle(trained, out)
    elif layout == "published":
        torch.save(_PUBLISHED[kind](trained.method), out)
    elif kind == "dinov2":
        tensors = layouts.chexfound_hugging_face(trained.method)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out)
    else:
        raise BundleMakingError(f"On Hugging Face lies no {kind}; take --layout published.")


def write_backbone_bundle(trained: Trained, out: Path) -> LoadedBundle:
    """A bundle that is a backbone only, with the preprocessing that it was trained with."""
    recipe, stage = recipe_of(trained), stage_of(trained)
    backbone = kept_backbone(trained)
    try:
        manifest = Manifest(
            name=recipe.name,
            version=recipe.version,
            created=datetime.now(UTC).date(),
            architecture=architecture_at(recipe.backbone, stage.sizes[0]),
            preprocessing=seen_preprocessing(recipe, stage),
            heads=[],
            population=Population(),
            training={
                "data": f"pre-trained without labels by {recipe.method.kind}",
                "recipe": recipe.model_dump(mode="json"),
            },
            licence=recipe.licence,
            unproven="A pre-trained backbone: nothing has been shown of what it is worth.",
        )
    except ValidationError as error:
        raise BundleMakingError(f"The recipe makes no bundle: {error}") from error
    network = build_network(manifest)
    network.backbone.load_state_dict(backbone.state_dict())
    images = selftest_images(stage.sizes[0])
    return write_bundle(out, manifest, network.eval(), _card(recipe, stage), images, torch.float32, _TOLERANCE)


def kept_backbone(trained: Trained) -> Backbone:
    """The backbone that is used afterwards, in evaluation mode."""
    method = recipe_of(trained).create(stage_of(trained))
    method.load_state_dict(trained.method)
    return method.kept.eval()


def recipe_of(trained: Trained) -> PretrainingRecipe:
    """Raises SettingsError when it was kept by a version with other recipes."""
    try:
        return PretrainingRecipe.model_validate_json(trained.recipe)
    except ValidationError as error:
        raise SettingsError(f"What was kept is of a recipe that this version does not know: {error}") from error


def stage_of(trained: Trained) -> StageTable:
    """The stage that it was kept after."""
    return next(stage for stage in recipe_of(trained).stages if stage.name == trained.stage)


def seen_preprocessing(recipe: PretrainingRecipe, stage: StageTable) -> Preprocessing:
    """That of the recipe, at the size that the stage's network sees."""
    placed, size = recipe.preprocessing, stage.sizes[0]
    resize = None if placed.resize is None else round(placed.resize * size / placed.size)
    return placed.model_copy(update={"size": size, "resize": resize})


def _card(recipe: PretrainingRecipe, stage: StageTable) -> str:
    data = recipe.data
    phantoms = f"{data.phantoms.training:,} simulated radiographs" if data.phantoms else ""
    learned = "; ".join(part for part in (phantoms, ", ".join(data.sources)) if part)
    return f"""# {recipe.name} {recipe.version}

**Not for clinical use.** A backbone that was pre-trained without labels; it gives no result by itself.

- Method: {recipe.method.kind}, stage {stage.name}, {stage.steps:,} steps of {stage.batch} images
- Images: {learned} (sources whose folders were not given are not among them)
- Backbone: `{recipe.backbone.timm_name}`, {stage.sizes[0]} x {stage.sizes[0]} pixels
- Licence: {recipe.licence}
"""
