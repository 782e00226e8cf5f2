"""The backbone that the first look begins with, pre-trained without labels: the stage "pretrain" of a regeneration.

Called by look_making.py; recipe.py has a recipe checked here as soon as it is read.
"""

import inspect
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import Progress
from timm.models import model_entrypoint

from schemas.bundle import Architecture
from schemas.errors import SettingsError
from training.curation.curate import Curation
from training.learning.loop import CurvePoint
from training.pretraining.checkpoint import read_trained
from training.pretraining.encoder import create_encoder
from training.pretraining.export import write_backbone_bundle
from training.pretraining.filling import Filling
from training.pretraining.images import learned_images
from training.pretraining.method import is_position
from training.pretraining.parallel import processes
from training.pretraining.positions import resampled
from training.pretraining.recipe import PretrainingRecipe
from training.pretraining.trainer import CURVE, Images, Machine, pretrain
from training.regeneration.making import BUNDLE, save_curve
from workers.bundle import load_bundle
from workers.networks.features import Backbone

if TYPE_CHECKING:
    from training.regeneration.recipe import Recipe

#: Of a backbone's arguments those that change no weight: for which size positions are, and what heads read.
_FREE = frozenset({"img_size", "out_indices", "pool"})
_IMAGES = "images"


def check_pretraining(recipe: "Recipe") -> None:
    """Refuse a pre-training whose backbone is not the first look's, or that would learn from what others are judged by.

    Builds no weights, so it takes no time whatever the size. Raises SettingsError that names the key to change.
    """
    if recipe.pretraining is None:
        return
    wanted = recipe.pretraining.recipe
    theirs, ours = wanted.backbone, recipe.network.backbone
    if theirs.timm_name != ours.timm_name:
        raise SettingsError(
            f"network.backbone.timm_name is {ours.timm_name}, the pre-training {wanted.name} trains "
            f"{theirs.timm_name}: give both the same, or pretraining.recipe another one."
        )
    side = recipe.network.preprocessing.size
    with torch.device("meta"):
        learning = create_encoder(ours, side)
        kept = wanted.create(wanted.stages[-1]).kept
    _same_arguments(ours, theirs, wanted.name)
    channels = recipe.network.preprocessing.channels
    if kept.channels != channels:
        raise SettingsError(
            f"network.preprocessing has {channels} channels (mean, std), the pre-training {wanted.name} "
            f"{kept.channels}: give both the same."
        )
    if not learning.skip_channels:
        raise SettingsError(
            f"network.backbone.timm_name: {ours.timm_name} has no convolutional stem, which the dense head needs. "
            "Take hybrid_vit_tiny_patch16, and a pre-training of it."
        )
    fitted(kept.state_dict(), learning)
    _apart(recipe, wanted)


def _same_arguments(ours: Architecture, theirs: Architecture, name: str) -> None:
    mine, other = _arguments(ours), _arguments(theirs)
    for key in sorted((mine.keys() | other.keys()) - _FREE):
        if mine.get(key) != other.get(key):
            raise SettingsError(
                f"network.backbone.arguments.{key} is {mine.get(key)!r}, in the pre-training {name} it is "
                f"{other.get(key)!r}: give both the same."
            )


def _arguments(architecture: Architecture) -> dict[str, Any]:
    """What the network is made with, defaults included."""
    parameters = inspect.signature(model_entrypoint(architecture.timm_name)).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    return defaults | dict(architecture.arguments)


def _apart(recipe: "Recipe", wanted: PretrainingRecipe) -> None:
    """Phantoms that thresholds are chosen on, or that figures are of, are not learned from."""
    table, pool, evaluation = wanted.data.phantoms, recipe.phantoms, recipe.evaluation
    if table is None:
        return
    validation = range(pool.first_seed + pool.training, pool.first_seed + pool.training + pool.validation)
    tested = range(evaluation.first_seed, evaluation.first_seed + evaluation.count)
    for judged, whose in ((validation, "phantoms.validation"), (tested, "evaluation")):
        if table.first_seed < judged.stop and judged.start < table.first_seed + table.training:
            raise SettingsError(
                f"data.phantoms of the pre-training {wanted.name} (seeds {table.first_seed} to "
                f"{table.first_seed + table.training - 1}) overlaps {whose} ({judged.start} to {judged.stop - 1}): "
                "give it another first_seed or fewer phantoms; what was learned from proves nothing."
            )


def pretrain_backbone(
    wanted: PretrainingRecipe, curation: Curation | None, sources: Sequence[str], folder: Path, progress: Progress
) -> None:
    """Pre-train in `folder`, on from where a kill left it: the bundle with the backbone alone, and the curve.

    Parameters
    ----------
    curation : whose training part of `sources` is learned from beside the recipe's phantoms; None: these alone

    Raises SettingsError when there is nothing to learn from, FloatingPointError when the loss is not finite.
    """
    if not (folder / BUNDLE).exists():
        store = learned_images(wanted, curation, sources, folder / _IMAGES, Filling(wanted.preprocessing, progress))
        with processes() as among:
            trained = pretrain(wanted, Images(store), folder, Machine(among), progress)
        save_curve(_curve(wanted, folder), folder)
        partial = folder / f"{BUNDLE}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        write_backbone_bundle(read_trained(trained), partial)
        partial.rename(folder / BUNDLE)
    # Only now: a kill before would begin anew.
    for path in [folder / _IMAGES, *(_stage_folder(wanted, folder, number) for number in range(len(wanted.stages)))]:
        shutil.rmtree(path, ignore_errors=True)


def _stage_folder(wanted: PretrainingRecipe, folder: Path, number: int) -> Path:
    return folder / f"{number + 1}-{wanted.stages[number].name}"


def _curve(wanted: PretrainingRecipe, folder: Path) -> list[CurvePoint]:
    """Of all stages, one after the other."""
    curve, before = [], 0
    for number, stage in enumerate(wanted.stages):
        for point in json.loads((_stage_folder(wanted, folder, number) / CURVE).read_text(encoding="utf-8")):
            curve.append(CurvePoint(before + point.pop("step"), point))
        before += stage.steps
    return curve


def begin_with(backbone: Backbone, pretrained: Path) -> None:
    """Give the backbone the weights that the stage in the folder `pretrained` has learned."""
    learned = load_bundle(pretrained / BUNDLE).network.backbone.state_dict()
    backbone.load_state_dict(fitted(learned, backbone))


def fitted(learned: dict[str, torch.Tensor], backbone: Backbone) -> dict[str, torch.Tensor]:
    """The tensors `learned` for `backbone`: all of them, positions resampled to its grid.

    Raises SettingsError that names the tensors for which that is not so.
    """
    own = backbone.state_dict()
    state = {
        name: resampled(tensor, own[name].shape[1]) if name in own and is_position(name) else tensor
        for name, tensor in learned.items()
    }
    other = sorted(own.keys() ^ state.keys()) or sorted(name for name in own if own[name].shape != state[name].shape)
    if other:
        raise SettingsError(
            f"network.backbone is another network than the one that pretraining.recipe trains: {', '.join(other[:5])} "
            "differ. Give both the same arguments."
        )
    return state
