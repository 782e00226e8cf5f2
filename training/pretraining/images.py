"""The images that a recipe asks for: phantoms, curated sources or shards, placed once and found again.

Called by `chexnode train pretrain`, and by `chexnode train compare` for the very same split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import SettingsError
from training.curation.curate import Curation, curate
from training.curation.manifest import CuratedImage
from training.examples.phantoms import PhantomMaker
from training.phantom.truth import Family
from training.pretraining.filling import Filling, phantom_store, sample_store, shard_store
from training.pretraining.recipe import PhantomTable, PretrainingRecipe
from training.pretraining.store import Store, joined
from training.sources.catalogue import Named, open_folder
from training.sources.source import Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")
#: Of the frozen family's phantoms that are tested on; far from every seed that is learned from.
_TEST_SEED = 5_000_000


@dataclass(frozen=True)
class Given:
    """What a command line adds to a recipe."""

    sources: Sequence[Named] = ()
    #: Folders that `chexnode train curate --shards` wrote.
    shards: Sequence[Path] = ()
    #: Test images of other manifests, whose patients must not be learned from.
    held_out: Sequence[CuratedImage] = ()


def recipe_images(
    recipe: PretrainingRecipe, given: Given, folder: Path, filling: Filling, splits: Sequence[Split]
) -> dict[Split, Store]:
    """The images of each of `splits`, in `folder`; a patient is on one side. An empty side is left out.

    Raises SettingsError when there is nothing to learn from, SourceError when a source is not as expected.
    """
    tell = filling.progress.console.print
    named = [each for each in given.sources if _wanted(each) in recipe.data.sources]
    for source in recipe.data.sources:
        if source not in map(_wanted, named) and not given.shards:
            tell(f"[yellow]no folder given for {source}:[/] left out (--source {source}=FOLDER)", highlight=False)
    curation = _curated(recipe, named, given, folder, filling) if named else None
    stores: dict[Split, Store] = {}
    for split in splits:
        parts = []
        if recipe.data.phantoms is not None:
            corners = recipe.data.curation.corners if named else None
            parts.append(_phantoms(recipe.data.phantoms, split, corners, folder, filling))
        if curation is not None:
            samples = curation.part(split)
            parts.append(sample_store(folder / f"{split}-sources", samples, filling, f"Reading {split} images"))
        for number, shards in enumerate(given.shards):
            parts.append(shard_store(folder / f"{split}-shards-{number}", shards, split, filling))
        parts = [part for part in parts if len(part)]
        if parts:
            stores[split] = joined(parts)
    if "train" in splits and "train" not in stores:
        raise SettingsError(
            f"The recipe {recipe.name} has nothing to learn from: give folders of {', '.join(recipe.data.sources)} "
            "with --source KIND=FOLDER, or shards with --shards FOLDER."
        )
    return stores


def learned_images(
    recipe: PretrainingRecipe, curation: Curation | None, sources: Sequence[str], folder: Path, filling: Filling
) -> Store:
    """The images to learn from, in `folder`, of a curation that was made before: its training part and nothing else.

    Parameters
    ----------
    sources : names of those whose images are taken; None of them needs to be in the recipe

    Raises SettingsError when there is nothing to learn from.
    """
    samples = [] if curation is None else [each for each in curation.part("train") if each.source in sources]
    parts = []
    if recipe.data.phantoms is not None:
        corners = curation.settings.corners if curation is not None and sources else None
        parts.append(_phantoms(recipe.data.phantoms, "train", corners, folder, filling))
    if samples:
        parts.append(sample_store(folder / "train-sources", samples, filling, "Reading train images"))
    if not parts:
        raise SettingsError(
            f"The pre-training {recipe.name} has nothing to learn from: give data.phantoms to its recipe, or folders "
            f"of {', '.join(recipe.data.sources) or 'sources that it names'}."
        )
    return joined(parts)


def _wanted(named: Named) -> str:
    """As a recipe names it."""
    return named.kind if named.name == named.kind else f"{named.kind}:{named.name}"


def _phantoms(table: PhantomTable, split: Split, corners: float | None, folder: Path, filling: Filling) -> Store:
    """What is tested on comes from the family that nothing is learned from, as drawn."""
    side = table.film_side
    makers = {
        "train": (PhantomMaker(table.first_seed, film_side=side, corners=corners), table.training),
        "val": (PhantomMaker(table.first_seed + table.training, film_side=side), table.validation),
        "test": (PhantomMaker(_TEST_SEED, Family.FROZEN, film_side=side), table.test),
    }
    maker, count = makers[split]
    return phantom_store(folder / f"{split}-phantoms", maker, count, filling)


def _curated(
    recipe: PretrainingRecipe, named: Sequence[Named], given: Given, folder: Path, filling: Filling
) -> Curation:
    sources = [open_folder(each) for each in named]
    return curate(sources, recipe.data.curation, folder / "curation", filling.progress, held_out=given.held_out)
