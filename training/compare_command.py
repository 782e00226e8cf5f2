"""`chexnode train compare`: what pre-training is worth, recipe by recipe. Heavy modules are imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from training.pretraining.recipe import PretrainingRecipe
    from training.protocols.compare import Contestant

_PROTOCOLS = ("linear", "glori", "glori_pyramid", "finetune", "lora")
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("compare")
@click.argument("recipes", nargs=-1, required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of everything.")
@click.option("--source", "sources", multiple=True, metavar="KIND[:NAME]=FOLDER", help="Radiographs the recipes name.")
@click.option("--shards", multiple=True, type=_FOLDER, help="Folder that chexnode train curate --shards wrote.")
@click.option("--protocol", "protocols", multiple=True, type=click.Choice(_PROTOCOLS), default=("linear", "glori"))
@click.option("--target", "targets", multiple=True, help="Class to learn; by default those that the recipes probe.")
@click.option("--percent", "percents", multiple=True, type=click.FloatRange(0, 100, min_open=True), help="Of labels.")
@click.option("--draws", type=click.IntRange(1), default=10, show_default=True, help="Of patients, below 100 %.")
@click.option(
    "--across", multiple=True, metavar="SOURCE:SOURCE", help="Also learn from one source and test on another."
)
@click.option("--probe-steps", type=click.IntRange(1), default=400, show_default=True, help="Of a probe.")
@click.option("--tuning-steps", type=click.IntRange(2), default=200, show_default=True, help="Of fine-tuning.")
@click.option("--scratch-steps", type=click.IntRange(2), help="Of fine-tuning fresh weights; default as the others.")
@click.option("--equal-compute", is_flag=True, help="Fresh weights: as much as pre-training and fine-tuning cost.")
@click.option("--steps", type=click.IntRange(min=2), help="A rehearsal: pre-train for at most so many steps.")
@click.option("--images", type=click.IntRange(min=2), help="A rehearsal: at most so many phantoms.")
def compare_command(
    recipes: tuple[str, ...],
    out: Path,
    sources: tuple[str, ...],
    shards: tuple[Path, ...],
    protocols: tuple[str, ...],
    targets: tuple[str, ...],
    percents: tuple[float, ...],
    draws: int,
    across: tuple[str, ...],
    probe_steps: int,
    tuning_steps: int,
    scratch_steps: int | None,
    equal_compute: bool,
    steps: int | None,
    images: int | None,
) -> None:
    """Pre-train RECIPES and compare them with fresh weights; what is there already is used.

    The table and comparison.json hold the macro AUROC on test images, comparison.png its curves. Patients of the test
    images enter no pre-training and no choice.
    """
    from rich.console import Console

    from schemas.errors import SettingsError
    from training.pretrain_command import given_images
    from training.pretraining.filling import Filling
    from training.pretraining.images import SPLITS, recipe_images
    from training.pretraining.parallel import processes
    from training.pretraining.recipe import find_pretraining_recipe
    from training.pretraining.trainer import Images, Machine, pretrain
    from training.progress import training_progress
    from training.protocols.compare import Comparer, ComparisonSettings
    from training.protocols.compute import equal_budget
    from training.protocols.curves import comparison_table, save_curves
    from training.protocols.label_draws import SHARES
    from training.protocols.tuning import TuningSettings

    if equal_compute and scratch_steps is not None:
        raise click.UsageError("Give either --scratch-steps or --equal-compute, which computes them.")
    wanted = [find_pretraining_recipe(each).with_limits(steps, images) for each in recipes]
    given = given_images(sources, shards, ())
    asked = targets or tuple(dict.fromkeys(name for each in wanted if each.probe for name in each.probe.targets))
    if not asked:
        raise SettingsError("Name at least one --target: the recipes probe none.")
    settings = ComparisonSettings(
        targets=asked,
        protocols=tuple(protocols),  # type: ignore[arg-type]
        shares=tuple(each / 100 for each in percents) or SHARES,
        draws=draws,
        steps=probe_steps,
        tuning=TuningSettings(steps=tuning_steps),
        across=tuple(_pair(each) for each in across),
    )
    console = Console()
    with processes() as among, training_progress(console) as progress:
        contestants: list[Contestant] = []
        for recipe in wanted:
            # Recipes that place images alike share them.
            stores = recipe_images(recipe, given, out / "data", Filling(recipe.preprocessing, progress), SPLITS)
            if missing := [split for split in SPLITS if split not in stores]:
                raise SettingsError(f"There are no images for {', '.join(missing)}; give more, or phantoms.")
            learned = Images(stores["train"], stores["val"])
            trained = pretrain(recipe, learned, out / recipe.name, Machine(among), progress)
            tuned_longer = scratch_steps
            if equal_compute:
                budget = equal_budget(recipe, settings.tuning)
                tuned_longer = budget.steps
                console.print(
                    f"{recipe.name}: pre-training {budget.pretraining / 1e15:.3g} and fine-tuning "
                    f"{budget.tuning / 1e15:.3g} PFLOP; fresh weights: {budget.steps:,} steps at each rate",
                    highlight=False,
                )
            contestants += _contestants(recipe, trained, tuned_longer)
        comparison = Comparer(stores, settings, out / "features", progress).compare(contestants)
    (out / "comparison.json").write_text(comparison.model_dump_json(indent=2) + "\n", encoding="utf-8")
    save_curves(comparison, out / "comparison.png")
    console.print(comparison_table(comparison))
    console.print(f"written: {out / 'comparison.json'} and comparison.png", soft_wrap=True, highlight=False)


def _pair(text: str) -> tuple[str, str]:
    source, separator, other = text.partition(":")
    if not separator or not source or not other:
        raise click.UsageError(f"--across takes two sources, SOURCE:SOURCE, not {text}.")
    return source, other


def _contestants(recipe: "PretrainingRecipe", trained: Path, scratch_steps: int | None) -> "list[Contestant]":
    """The recipe's backbone, and one with fresh weights that is fine-tuned for `scratch_steps`."""
    import torch

    from training.pretraining.checkpoint import read_trained
    from training.pretraining.export import kept_backbone, seen_preprocessing
    from training.protocols.compare import SCRATCH, Contestant

    stage = recipe.stages[-1]
    preprocessing = seen_preprocessing(recipe, stage)
    fresh = f"{recipe.name}, {SCRATCH}"
    torch.manual_seed(recipe.seed)
    return [
        Contestant(recipe.name, kept_backbone(read_trained(trained)), preprocessing, fresh),
        Contestant(fresh, recipe.create(stage).kept.eval(), preprocessing, fresh, scratch_steps),
    ]
