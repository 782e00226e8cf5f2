"""`chexnode train`: make and evaluate model bundles. Heavy modules are imported when a command runs."""

from importlib import import_module
from pathlib import Path

import click

_ELSEWHERE = {
    "curate": "training.curate_command:curate_command",
    "pretrain": "training.pretrain_command:pretrain_command",
    "export": "training.export_command:export_command",
    "compare": "training.compare_command:compare_command",
    "calibrate": "training.calibrate_command:calibrate_command",
    "worker": "training.runs.commands:worker_command",
    "submit": "training.runs.commands:submit_command",
    "status": "training.runs.commands:status_command",
}
_CACHE = Path.home() / ".cache" / "chexnode"

_cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=_CACHE,
    help="Folder for rendered phantoms and pictures of runs; default ~/.cache/chexnode.",
)


class _LazyGroup(click.Group):
    """Commands that live in modules of their own, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_ELSEWHERE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, _, name = _ELSEWHERE[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group("train", cls=_LazyGroup)
def train_group() -> None:
    """Make and evaluate model bundles."""


@train_group.command("regenerate")
@click.argument("recipe", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Also put the bundle into this folder.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="KIND[:NAME]=FOLDER",
    help="Real radiographs that the recipe names; repeatable. Without its folder a source is left out.",
)
@click.option("--against", help="Compare with this bundle: a folder, or a name or digest of chexnode bundle list.")
@click.option("--register", is_flag=True, help="Compare with this node's active bundle, and register as a candidate.")
@click.option("--steps", type=click.IntRange(min=1), help="A rehearsal: train for at most so many steps.")
@click.option("--pool", type=click.IntRange(min=2), help="A rehearsal: train on at most so many phantoms.")
@_cache_option
def regenerate_command(
    recipe: Path | None,
    out: Path | None,
    sources: tuple[str, ...],
    against: str | None,
    register: bool,
    steps: int | None,
    pool: int | None,
    cache: Path,
) -> None:
    """Make a bundle from RECIPE (default: the shipped bundle's), stage by stage, and judge it by the recipe's gate.

    Stages are kept in the cache: killed and started again, it goes on where it was. A bundle that the gate refuses is
    neither put into --out nor registered, and the status is 1. A rehearsal has no gate.
    """
    from rich.console import Console

    from training.regeneration.recipe import default_recipe, read_recipe
    from training.regeneration.regenerate_bundle import regenerate_bundle

    if register and against:
        raise click.UsageError("--register compares with the active bundle: leave out --against.")
    wanted = read_recipe(recipe or default_recipe()).with_limits(steps, pool)
    console = Console()
    if not regenerate_bundle(wanted, cache, console, out=out, sources=sources, against=against, into_registry=register):
        raise click.exceptions.Exit(1)


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
    from training.evaluation.bundle import evaluate_bundle
    from workers.bundle import load_bundle
    from workers.metrics_table import metrics_table

    console = Console()
    loaded = load_bundle(bundle_folder(bundle))
    report = evaluate_bundle(loaded, range(seed, seed + count), cache, console)
    console.print(metrics_table(report.metrics, f"{report.name} {report.version} on {count} fresh phantoms"))
    if json_file is not None:
        json_file.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
