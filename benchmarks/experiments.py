"""How much steps, phantoms, kinds of data and seeds matter: `python -m benchmarks.experiments --source KIND=FOLDER ...`

Each run is the recipe with one thing changed, made by the stages of `chexnode train regenerate` in the same cache: what
runs share (phantoms, radiographs, whole trainings) is made once, and what was interrupted goes on. After each run what
is known so far is printed, and lies in --out as experiments.json and a PNG file for each experiment.

  steps     a quarter, half and all of the steps of both looks
  phantoms  a quarter, half and all of the phantoms, at all steps (each share is drawn anew)
  ablation  phantoms alone, radiographs alone, both; what is not learned from is measured on all the same
  seeds     three seeds of weights and batches
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.experiment_results import Results, RunFigures, print_results, save_plots, save_results
from schemas.errors import ChexnodeError
from training.regeneration.recipe import LookTable, Recipe, read_recipe
from training.regeneration.regenerate import regenerate

_RECIPE = Path(__file__).resolve().parent.parent / "training" / "regeneration" / "recipes" / "reference.toml"
_SHARES = {"a quarter": 0.25, "half": 0.5, "all": 1.0}
_SEEDS = 3
_EXPERIMENTS = ("steps", "phantoms", "ablation", "seeds")


@dataclass(frozen=True)
class Run:
    """One recipe, in as many experiments as it belongs to."""

    recipe: Recipe
    #: By experiment, what it is called there.
    names: dict[str, str]


def main() -> None:
    """Make the runs that are not made yet, and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=_RECIPE, help="by default the reference bundle's")
    parser.add_argument("--source", action="append", default=[], help="KIND=FOLDER of radiographs, repeatable")
    parser.add_argument("--only", nargs="+", choices=_EXPERIMENTS, default=list(_EXPERIMENTS))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the recipe's steps that is 'all' (1.0)")
    parser.add_argument("--pool", type=int, help="at most so many phantoms, for a rehearsal")
    parser.add_argument("--count", type=int, help="so many frozen phantoms instead of the recipe's")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "chexnode", help="of the stages")
    parser.add_argument("--out", type=Path, default=Path("experiments"), help="folder for tables and plots")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 200)
    recipe = read_recipe(arguments.recipe)
    if not arguments.source:
        console.print("[yellow]no --source:[/] no ablation, and no figures on patients", highlight=False)
    recipe = recipe.with_limits(None, arguments.pool)
    if arguments.count is not None:
        recipe = _changed(recipe, evaluation=recipe.evaluation.model_copy(update={"count": arguments.count}))
    if arguments.scale != 1:
        recipe = _changed(recipe, **_steps(recipe, arguments.scale))
    experiments = [each for each in arguments.only if each != "ablation" or arguments.source]
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = Results(recipe=str(arguments.recipe), scale=arguments.scale, runs=[])
    for run in runs_of(recipe, experiments):
        console.rule(", ".join(f"{experiment}: {name}" for experiment, name in run.names.items()))
        figures = _made(run, arguments.cache, arguments.source, console)
        results = results.model_copy(update={"runs": [*results.runs, figures]})
        save_results(results, arguments.out)
        for experiment in run.names:
            print_results(results, experiment, console)
            save_plots(results, experiment, arguments.out)
    console.print(f"figures and plots in {arguments.out}", soft_wrap=True, highlight=False)


def runs_of(recipe: Recipe, experiments: Sequence[str]) -> list[Run]:
    """The runs of these experiments, each recipe once; "all" of the recipe, which most of them share, first."""
    wanted = {
        "steps": {name: _changed(recipe, **_steps(recipe, share)) for name, share in _SHARES.items()},
        "phantoms": {name: _changed(recipe, **_phantoms(recipe, share)) for name, share in _SHARES.items()},
        "ablation": {
            "phantoms": _changed(recipe, sources=[each.model_copy(update={"weight": 0.0}) for each in recipe.sources]),
            "radiographs": _changed(recipe, phantom_weight=0.0),
            "both": recipe,
        },
        "seeds": {f"seed {number}": _changed(recipe, **_seeded(recipe, number)) for number in range(_SEEDS)},
    }
    runs = [Run(recipe, {})]
    for experiment in experiments:
        for name, changed in wanted[experiment].items():
            run = next((each for each in runs if each.recipe == changed), None)
            if run is None:
                run = Run(changed, {})
                runs.append(run)
            run.names[experiment] = name
    return [run for run in runs if run.names]


def _changed(recipe: Recipe, **changes: object) -> Recipe:
    """Another recipe of another version, without a gate, so that nobody takes its bundle for the recipe's own.

    Where nothing changes, the recipe itself: its bundle may be there already.
    """
    changed = recipe.model_copy(update=changes)
    if changed == recipe:
        return recipe
    bundle = recipe.bundle.model_copy(update={"version": f"{recipe.bundle.version[:8]}-trial"})
    return changed.model_copy(update={"gate": None, "bundle": bundle})


def _steps(recipe: Recipe, share: float) -> dict[str, LookTable]:
    """The same schedule in fewer steps."""

    def shorter(look: LookTable) -> LookTable:
        steps = {"steps": max(1, round(share * look.steps)), "warm_up_steps": round(share * look.warm_up_steps)}
        return look.model_copy(update=steps)

    return {"first_look": shorter(recipe.first_look), "second_look": shorter(recipe.second_look)}


def _phantoms(recipe: Recipe, share: float) -> dict[str, object]:
    """Fewer to learn from; as many to calibrate on."""
    return {
        "phantoms": recipe.phantoms.model_copy(update={"training": max(1, round(share * recipe.phantoms.training))})
    }


def _seeded(recipe: Recipe, number: int) -> dict[str, LookTable]:
    def seeded(look: LookTable) -> LookTable:
        return look.model_copy(update={"seed": look.seed + number})

    return {"first_look": seeded(recipe.first_look), "second_look": seeded(recipe.second_look)}


def _made(run: Run, cache: Path, sources: Sequence[str], console: Console) -> RunFigures:
    recipe = run.recipe
    figures = RunFigures(
        names=run.names,
        steps={"first look": recipe.first_look.steps, "second look": recipe.second_look.steps},
        seeds={"first look": recipe.first_look.seed, "second look": recipe.second_look.seed},
        phantoms=recipe.phantoms.training,
        weights={"phantoms": recipe.phantom_weight} | {each.source: each.weight for each in recipe.sources},
    )
    try:
        made = regenerate(recipe, cache, console, sources=sources)
    except ChexnodeError as error:
        # The other runs say something without it.
        console.print(f"[red]{error}[/]", highlight=False)
        return figures.model_copy(update={"failed": str(error)})
    manifest = made.bundle.manifest
    return figures.model_copy(
        update={"metrics": manifest.metrics, "minutes": manifest.training["minutes"], "bundle": made.bundle.digest}
    )


if __name__ == "__main__":
    main()
