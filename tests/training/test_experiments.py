"""Experiments change one thing at a time, and show what is known of it."""

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.experiment_results import Results, RunFigures, print_results, save_plots, save_results
from benchmarks.experiments import runs_of
from schemas.bundle import Metric
from training.regeneration.recipe import Recipe, read_recipe

_REFERENCE = Path(__file__).parents[2] / "training" / "regeneration" / "recipes" / "reference.toml"
_ALL = ("steps", "phantoms", "ablation", "seeds")


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe(_REFERENCE)


def test_the_whole_recipe_is_made_once_as_it_is_whatever_experiments_it_belongs_to(recipe: Recipe) -> None:
    runs = runs_of(recipe, _ALL)
    assert runs[0].recipe is recipe
    assert runs[0].names == {"steps": "all", "phantoms": "all", "ablation": "both", "seeds": "seed 0"}
    assert len(runs) == 1 + 2 + 2 + 2 + 2


def test_every_other_run_changes_one_thing_and_is_never_registered(recipe: Recipe) -> None:
    changed = []
    for run in runs_of(recipe, _ALL)[1:]:
        assert run.recipe.gate is None and run.recipe.bundle.version != recipe.bundle.version
        mine, theirs = run.recipe.model_dump(), recipe.model_dump()
        changed.append({key for key in theirs if mine[key] != theirs[key]} - {"gate", "bundle"})
    looks = {"first_look", "second_look"}
    assert changed == [looks, looks, {"phantoms"}, {"phantoms"}, {"sources"}, {"phantom_weight"}, looks, looks]


def test_a_shorter_run_has_the_same_schedule_in_fewer_steps(recipe: Recipe) -> None:
    quarter = runs_of(recipe, ["steps"])[1].recipe
    for short, whole in ((quarter.first_look, recipe.first_look), (quarter.second_look, recipe.second_look)):
        assert short.steps == pytest.approx(whole.steps / 4, abs=1)
        assert short.warm_up_steps == pytest.approx(whole.warm_up_steps / 4, abs=1)
        assert short.learning_rate == whole.learning_rate


def _results() -> Results:
    def run(names: dict[str, str], value: float, failed: str = "") -> RunFigures:
        figures = [
            Metric(name="Dice lungs, mean", value=value, low=value - 0.01, high=value + 0.01, n=500, baseline=0.8),
            Metric(name="Dice lungs, mean", value=0.9, low=0.88, high=0.91, n=83, data="test patients of kermany"),
            Metric(name="something else", value=0.5, low=0.4, high=0.6, n=7),
        ]
        return RunFigures(
            names=names,
            steps={"first look": 1},
            seeds={"first look": 0},
            phantoms=1,
            weights={"phantoms": 1.0},
            metrics=[] if failed else figures,
            failed=failed,
        )

    runs = [
        run({"seeds": "seed 0", "ablation": "both"}, 0.95),
        run({"seeds": "seed 1"}, 0.97),
        run({"ablation": "radiographs"}, 0.9, "So few examples teach no class"),
    ]
    return Results(recipe="reference.toml", scale=0.25, runs=runs)


def test_what_is_known_is_printed_beside_baseline_and_reason_also_when_a_run_failed(tmp_path: Path) -> None:
    console = Console(record=True, width=200, quiet=False, file=(tmp_path / "out").open("w"))
    for experiment in ("seeds", "ablation"):
        print_results(_results(), experiment, console)
    text = console.export_text()
    assert "0.950 (0.940 to 0.960) 500" in text and "0.960, 0.014" in text
    assert "test patients of kermany" in text and "0.800" in text
    assert "teach no class" in text and "something else" not in text
    # The whole comes last, though it is made first.
    assert text.index("radiographs ") < text.index("both ")


def test_results_are_kept_whole_and_drawn(tmp_path: Path) -> None:
    save_results(_results(), tmp_path)
    assert Results.model_validate_json((tmp_path / "experiments.json").read_bytes()) == _results()
    drawn = save_plots(_results(), "seeds", tmp_path)
    assert drawn is not None and drawn.stat().st_size > 1000
    assert save_plots(_results(), "steps", tmp_path) is None
    assert {each.name for each in tmp_path.iterdir()} == {"experiments.json", "seeds.png"}
