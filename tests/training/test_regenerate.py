import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from schemas.bundle import bundle_digest, bundle_folder
from schemas.codes import Segment
from tests.training.tiny_recipe import TINY_TOML
from training.evaluation.bundle import evaluate_bundle
from training.evaluation.reading import read_phantoms
from training.progress import training_progress
from training.regeneration.gate import GateRules
from training.regeneration.recipe import parse_recipe
from training.regeneration.regenerate import Regenerated, put_bundle, regenerate
from training.train_command import train_group
from workers.bundle import LoadedBundle, load_bundle, run_selftest
from workers.bundle_command import bundle_group

#: Nothing is asked of it.
TINY = parse_recipe(TINY_TOML.replace("steps = 20", "steps = 2"), "tiny.toml").model_copy(update={"gate": None})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(cache: Path) -> Regenerated:
    return regenerate(TINY, cache, Console(quiet=True))


@pytest.fixture(scope="module")
def tiny(made: Regenerated, tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    folder = tmp_path_factory.mktemp("out") / "tiny"
    put_bundle(made.bundle, folder)
    return load_bundle(folder)


def test_two_steps_on_a_tiny_pool_make_a_bundle_that_verifies(made: Regenerated, tiny: LoadedBundle) -> None:
    assert tiny.digest == made.bundle.digest == bundle_digest(tiny.folder)
    assert run_selftest(tiny) == 0
    assert tiny.manifest.metrics
    assert not tiny.manifest.cleared_for_clinical_use
    assert "Not for clinical use" in (tiny.folder / "card.md").read_text(encoding="utf-8")
    assert not list(tiny.folder.parent.glob("tiny.*"))
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in tiny.folder.rglob("*"))


def test_the_report_needs_no_other_file_and_shows_every_picture_and_stage(made: Regenerated) -> None:
    page = made.report.read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert page.count("<img") == len(list(made.report.parent.glob("*.png"))) >= 5
    for stage in ("examples", "first-look", "second-look", "calibrate", "evaluate", "bundle"):
        assert f"<td>{stage}</td>" in page
    assert made.bundle.digest in page and "NOT FOR CLINICAL USE" in page.upper()


def test_without_a_gate_nothing_may_be_registered(made: Regenerated) -> None:
    assert made.verdict is None
    assert not made.may_be_registered and not made.refused


def test_the_gate_compares_with_the_active_bundle_on_the_same_phantoms_and_trains_nothing_again(
    cache: Path, made: Regenerated
) -> None:
    trained = {path: path.stat().st_mtime_ns for path in (cache / "stages").glob("first-look-*/stage.json")}
    lung = {"statistic": "mean", "figure": "Dice right_lung", "better": "higher", "margin": 0.1}
    for limit, passes in ((0.0, True), (2.0, False)):
        gate = GateRules.model_validate({"metrics": [lung | {"limit": limit}]})
        again = regenerate(
            TINY.model_copy(update={"gate": gate}), cache, Console(quiet=True), active=load_bundle(made.bundle.folder)
        )
        assert again.verdict is not None
        (metric,) = again.verdict.metrics
        assert (metric.difference, metric.difference_bound) == (0, 0)
        assert (again.may_be_registered, again.refused) == (passes, not passes)
        assert ("Refused" in again.report.read_text(encoding="utf-8")) is not passes
    assert {path: path.stat().st_mtime_ns for path in trained} == trained


def test_a_refused_bundle_leaves_the_folder_as_it_was_and_says_why(cache: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY_TOML.replace("limit = 0.0", "limit = 2.0").replace("steps = 20", "steps = 2"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("kept")
    run = CliRunner().invoke(train_group, ["regenerate", str(recipe), "--out", str(out), "--cache", str(cache)])
    assert run.exit_code == 1
    assert "The gate refuses this bundle" in run.output and "at least 2 is asked" in run.output
    assert (out / "mine").read_text() == "kept"


def test_evaluation_reports_figures_that_json_holds(tiny: LoadedBundle, tmp_path: Path) -> None:
    report = evaluate_bundle(tiny, range(5000, 5010), tmp_path, Console(quiet=True))
    names = [metric["name"] for metric in json.loads(report.model_dump_json())["metrics"]]
    assert "AUROC abnormal tube, all" in names
    assert "Dice right_lung, mean" in names


def test_the_shipped_bundle_verifies_and_says_that_it_is_not_for_clinical_use() -> None:
    verified = CliRunner().invoke(bundle_group, ["verify"], catch_exceptions=False)
    assert verified.exit_code == 0
    assert bundle_digest(bundle_folder(None)) in verified.output
    shown = CliRunner().invoke(bundle_group, ["show"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "Not for clinical use" in shown.output


def test_the_shipped_bundle_is_small() -> None:
    assert sum(path.stat().st_size for path in bundle_folder(None).rglob("*") if path.is_file()) <= 40e6


def test_the_shipped_bundle_outlines_lungs_and_finds_the_carina_on_fresh_phantoms() -> None:
    """A floor well below the stated figures: it notices a broken chain, not a slightly worse model."""
    bundle = load_bundle(bundle_folder(None))
    with training_progress(Console(quiet=True)) as progress:
        seeds = range(3_000_000, 3_000_016)
        readings = [reading for _, _, reading in read_phantoms(bundle.network, bundle.manifest, seeds, progress)]
    seen = [reading for reading in readings if not reading.refused]
    assert len(seen) >= 14
    for segment in (Segment.RIGHT_LUNG, Segment.LEFT_LUNG):
        assert sum(reading.dice[segment] for reading in seen) / len(seen) > 0.85
