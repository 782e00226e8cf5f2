"""`chexnode train`: make and evaluate model bundles. Heavy modules are imported when a command runs."""

from pathlib import Path

import click

_CACHE = Path.home() / ".cache" / "chexnode"

_cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=_CACHE,
    help="Folder for rendered phantoms and pictures of runs; default ~/.cache/chexnode.",
)


@click.group("train")
def train_group() -> None:
    """Make and evaluate model bundles."""


@train_group.command("regenerate")
@click.argument("recipe", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The bundle's folder.")
@click.option("--steps", type=click.IntRange(min=1), help="Train for at most so many steps.")
@click.option("--pool", type=click.IntRange(min=2), help="Train on at most so many phantoms.")
@_cache_option
def regenerate_command(recipe: Path | None, out: Path, steps: int | None, pool: int | None, cache: Path) -> None:
    """Make a bundle from RECIPE (default: the shipped bundle's): render, train, evaluate, write."""
    from rich.console import Console

    from training.recipe import default_recipe, read_recipe
    from training.regenerate import regenerate

    regenerate(read_recipe(recipe or default_recipe()).with_limits(steps, pool), out, cache, Console())


@train_group.command("evaluate")
@click.argument("bundle", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", type=click.IntRange(min=1), default=500, show_default=True, help="Fresh phantoms.")
@click.option("--seed", type=click.IntRange(min=0), default=2_000_000, show_default=True, help="Seed of the first one.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures here."
)
@_cache_option
def evaluate_command(bundle: Path | None, count: int, seed: int, json_file: Path | None, cache: Path) -> None:
    """Evaluate BUNDLE (default: the shipped one) on phantoms that it has never seen."""
    from rich.console import Console

    from schemas.bundle import bundle_folder
    from training.evaluate_bundle import evaluate_bundle
    from workers.bundle import load_bundle
    from workers.metrics_table import metrics_table

    console = Console()
    loaded = load_bundle(bundle_folder(bundle))
    report = evaluate_bundle(loaded, range(seed, seed + count), cache, console)
    console.print(metrics_table(report.metrics, f"{report.name} {report.version} on {count} fresh phantoms"))
    if json_file is not None:
        json_file.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
