"""`chexnode train pretrain`: a backbone from images without labels. Heavy modules are imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from training.pretraining.images import Given

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("pretrain")
@click.argument("recipe", required=False)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the training.")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Folder of placed images; default OUT/data."
)
@click.option("--source", "sources", multiple=True, metavar="KIND[:NAME]=FOLDER", help="Radiographs the recipe names.")
@click.option("--shards", multiple=True, type=_FOLDER, help="Folder that chexnode train curate --shards wrote.")
@click.option(
    "--held-out",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="MANIFEST",
    help="Manifest whose test patients must not be learned from; repeatable.",
)
@click.option(
    "--accumulate", type=click.IntRange(1), default=1, show_default=True, help="Parts of a process's batch, in turn."
)
@click.option("--fsdp", is_flag=True, help="Share the network out among the processes (FSDP2) instead of copies (DDP).")
@click.option("--steps", type=click.IntRange(min=2), help="A rehearsal: at most so many steps in each stage.")
@click.option("--images", type=click.IntRange(min=2), help="A rehearsal: at most so many phantoms.")
@click.option("--list", "list_recipes", is_flag=True, help="List the recipes that come with the software and stop.")
def pretrain_command(
    recipe: str | None,
    out: Path | None,
    data: Path | None,
    sources: tuple[str, ...],
    shards: tuple[Path, ...],
    held_out: tuple[Path, ...],
    accumulate: int,
    fsdp: bool,
    steps: int | None,
    images: int | None,
    list_recipes: bool,
) -> None:
    """Pre-train the backbone of RECIPE (a name of --list, or a file).

    Killed and started again, it goes on where it was. On several GPUs, or CPU processes:

      torchrun --nproc-per-node 8 -m schemas.command_line train pretrain RECIPE --out FOLDER
    """
    from rich.console import Console

    from training.pretraining.filling import Filling
    from training.pretraining.images import recipe_images
    from training.pretraining.parallel import processes
    from training.pretraining.recipe import find_pretraining_recipe
    from training.pretraining.trainer import Images, Machine, pretrain
    from training.progress import training_progress

    if list_recipes:
        Console().print(_recipes())
        return
    if recipe is None or out is None:
        raise click.UsageError("Name a recipe and the folder --out; --list names the recipes.")
    wanted = find_pretraining_recipe(recipe).with_limits(steps, images)
    given = given_images(sources, shards, held_out)
    with processes() as among:
        # Of several processes one speaks.
        console = Console(quiet=not among.is_first)
        with training_progress(console) as progress:
            filling = Filling(wanted.preprocessing, progress)
            folder = data or out / "data"
            if among.is_first_of_its_host:
                recipe_images(wanted, given, folder, filling, ("train", "val"))
            among.meet()
            stores = recipe_images(wanted, given, folder, filling, ("train", "val"))
            learned = Images(stores["train"], stores.get("val"))
            machine = Machine(among, "fsdp" if fsdp else "ddp", accumulate)
            trained = pretrain(wanted, learned, out, machine, progress)
        console.print(f"pre-trained: {trained}", soft_wrap=True, highlight=False)
        console.print(f"curves: tensorboard --logdir {out}", soft_wrap=True, highlight=False)


def given_images(sources: tuple[str, ...], shards: tuple[Path, ...], held_out: tuple[Path, ...]) -> "Given":
    """What the command line says of images. Raises SourceError."""
    from training.curation.manifest import read_manifest
    from training.pretraining.images import Given
    from training.sources.catalogue import parse

    frozen = [image for path in held_out for image in read_manifest(path) if image.split == "test"]
    return Given([parse(each) for each in sources], list(shards), frozen)


def _recipes() -> "Table":
    from rich.table import Table

    from training.pretraining.recipe import read_pretraining_recipe, shipped_recipes

    table = Table("recipe", "method", "stages: pixels x steps x batch", "images")
    for name, path in shipped_recipes().items():
        recipe = read_pretraining_recipe(path)
        stages = "\n".join(f"{each.sizes[0]} x {each.steps:,} x {each.batch}" for each in recipe.stages)
        phantoms = recipe.data.phantoms
        images = [f"{phantoms.training:,} phantoms"] if phantoms else []
        table.add_row(name, recipe.method.kind, stages, ", ".join([*images, *recipe.data.sources]))
    return table
