"""A bundle with two looks is made from phantoms and a folder of radiographs; interrupted, it goes on where it was."""

import ast
import csv
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from schemas.codes import Finding, Segment
from schemas.errors import BundleMakingError
from tests.support.examples import COLUMNS, ROWS, Drawing
from training.progress import training_progress
from training.regeneration.look_making import LookMaking
from training.regeneration.making import BUNDLE
from training.regeneration.recipe import Recipe, parse_recipe
from training.regeneration.regenerate import regenerate
from training.regeneration.stages import Stages
from training.sources.catalogue import parse
from workers.bundle import load_bundle, run_selftest

RECIPE = """
[bundle]
name = "looks"
version = "0.0.1"
licence = "Apache-2.0"

[network.backbone]
timm_name = "hybrid_vit_tiny_patch16"
arguments = { img_size = 64, width = 64, depth = 4 }

[network.preprocessing]
profile = "letterbox"
size = 64
intensity = "stretch"
mean = [0.5]
std = [0.25]

[network]
glori = { width = 32, heads = 4 }
dense = { width = 32 }
second_look = { widths = [8, 8, 8, 8, 8] }

[population]
minimum_age_years = 18

[phantoms]
training = 2
validation = 1
first_seed = 1

[[sources]]
source = "folder"
weight = 4.0

[[sources]]
source = "nih"
weight = 1.0

[first_look]
steps = 4
batch = 4
learning_rate = 1e-3
checkpoint_every = 1

[second_look]
steps = 2
batch = 2
learning_rate = 1e-3

[evaluation]
count = 2
first_seed = 1000
"""


class InterruptionError(Exception):
    """Of a run, in its first look."""


class Interrupting:
    """Ends a run after the second step of its first look."""

    def __init__(self) -> None:
        self.stage = ""

    def stage_began(self, name: str) -> None:
        self.stage = name

    def advanced(self, done: float, total: float | None, remaining_seconds: float | None) -> None:
        if self.stage == "first-look" and done == 2:
            raise InterruptionError


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """62 drawings with labels, none like another; the last 12 are of test patients, with their lungs outlined.

    So few that no process is started to look at them, and as many as teach a class.
    """
    folder = tmp_path_factory.mktemp("radiographs")
    rows = []
    for index in range(62):
        made = Drawing()(index)
        own = Image.fromarray(np.random.default_rng(index).normal(0, 0.12, (10, 8)).astype(np.float32))
        grey = made.image + np.asarray(own.resize((COLUMNS, ROWS), Image.Resampling.BICUBIC))
        Image.fromarray((255 * grey.clip(0, 1)).astype(np.uint8)).save(folder / f"{index}.png")
        carina, tested = made.truth.carina, index >= 50
        assert carina is not None
        if tested:
            right, left = (made.truth.masks[lung] for lung in (Segment.RIGHT_LUNG, Segment.LEFT_LUNG))
            assert right is not None and left is not None
            Image.fromarray(right | left).save(folder / f"lungs-{index}.png")
        rows.append(
            {
                "file": f"{index}.png",
                "patient": f"p{index // 2}",
                "view": "AP" if index % 3 == 0 else "PA",
                "split": "train" if index < 46 else "test" if tested else "val",
                # Of test patients nothing is made that is shipped.
                "licence": "CC BY-NC-ND 4.0" if tested else "CC0",
                "x.carina": carina.x,
                "y.carina": carina.y,
                "mask.lungs": f"lungs-{index}.png" if tested else "",
                # Anything will do for a tube: a picture shows it, no figure is made of it.
                "mask.endotracheal_tube": f"lungs-{index}.png" if index == 61 else "",
                Finding.PLEURAL_EFFUSION.value: made.truth.classes[Finding.PLEURAL_EFFUSION.value],
                "endotracheal_tube.presence": made.truth.classes["endotracheal_tube.presence"],
            }
        )
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of stages; what one test has made the next one finds, and makes it where that test did not run."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def recipe() -> Recipe:
    return parse_recipe(RECIPE, "looks.toml")


def test_a_bundle_is_made_from_phantoms_and_radiographs_in_two_attempts(
    cache: Path, recipe: Recipe, radiographs: Path
) -> None:
    sources = [f"folder={radiographs}"]
    with pytest.raises(InterruptionError):
        regenerate(recipe, cache, Console(quiet=True), sources=sources, watcher=Interrupting())
    before = {path.parent.name: path.stat().st_mtime_ns for path in (cache / "stages").glob("*/stage.json")}
    assert {name.split("-")[0] for name in before} >= {"curate", "examples", "radiographs"}
    assert list((cache / "stages").glob("first-look-*.partial/checkpoint.pt"))
    made = regenerate(recipe, cache, Console(quiet=True), sources=sources)
    after = {path.parent.name: path.stat().st_mtime_ns for path in (cache / "stages").glob("*/stage.json")}
    assert before.items() <= after.items()
    assert not list((cache / "stages").glob("*/checkpoint.pt"))
    bundle = load_bundle(made.bundle.folder)
    assert run_selftest(bundle) == 0
    manifest = bundle.manifest
    assert {"pleural_effusion", "endotracheal_tube.presence"} <= {str(each.target) for each in manifest.classes}
    assert manifest.second_look is not None
    # Four validation images find no threshold.
    assert all(each.operating_point is None for each in manifest.classes)
    (attribution,) = manifest.training["attribution"]
    assert re.fullmatch(r"folder: 4\d images, CC0; docs/data-sources.md", attribution)
    card = (bundle.folder / "card.md").read_text(encoding="utf-8")
    assert attribution in card and "What it is not good for" in card


def test_test_patients_have_figures_of_their_own_whatever_their_licence_and_pictures_in_the_report(
    cache: Path, recipe: Recipe, radiographs: Path
) -> None:
    made = regenerate(recipe, cache, Console(quiet=True), sources=[f"folder={radiographs}"])
    manifest = made.bundle.manifest
    on_patients = {each.name: each for each in manifest.metrics if each.data == "test patients of folder"}
    lungs, effusion = on_patients["Dice lungs, mean"], on_patients["AUROC pleural_effusion"]
    # Of the publisher's training patients some are held out too, without outlines.
    assert lungs.n == 12 <= effusion.n
    # A drawing's effusion is a light patch at one place: a thumbnail sees it.
    assert effusion.baseline is not None and effusion.baseline > 0.9
    assert on_patients["frontal chests refused, share"].value == 0
    assert any(each.data == "" for each in manifest.metrics)
    card = (made.bundle.folder / "card.md").read_text(encoding="utf-8")
    assert "## Figures on test patients of folder" in card and "CC BY-NC-ND" not in card
    page = made.report.read_text(encoding="utf-8")
    assert "Figures on test patients of folder" in page and str(manifest.training["attribution"][0]) in page
    assert "Films with tubes" in page and "Lungs of test patients" in page


def test_radiographs_alone_make_a_bundle_without_a_second_look(cache: Path, recipe: Recipe, radiographs: Path) -> None:
    alone = recipe.model_copy(update={"phantom_weight": 0.0})
    with training_progress(Console(quiet=True)) as progress:
        making = LookMaking(alone, [parse(f"folder={radiographs}")], progress)
        calibrated = making.train(Stages(cache, progress, expected=7))
    assert making.data == "radiographs of folder"
    bundle = load_bundle(calibrated.folder / BUNDLE)
    assert bundle.manifest.second_look is None
    assert run_selftest(bundle) == 0


def test_what_a_source_without_weight_shows_is_not_learned(cache: Path, recipe: Recipe, radiographs: Path) -> None:
    unused = [each.model_copy(update={"weight": 0.0}) for each in recipe.sources]
    with pytest.raises(BundleMakingError, match="teach no class"):
        # Two phantoms are all that is left.
        regenerate(
            recipe.model_copy(update={"sources": unused}),
            cache,
            Console(quiet=True),
            sources=[f"folder={radiographs}"],
        )


def _imported(module: str) -> set[str]:
    """What of workers and training a module imports, itself included, however far away."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        spec = find_spec(name)
        if name in found or spec is None or spec.origin is None:
            continue
        found.add(name)
        for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(("workers.", "training.")):
                waiting.append(node.module)
    return found


@pytest.mark.parametrize(
    ("read_by", "more"),
    [
        ("training.evaluation.looks", ()),
        # As the stage that measures on patients says (training/regeneration/regenerate.py).
        ("training.evaluation.radiographs", ("training.curation", "training.sources")),
    ],
)
def test_what_decides_what_is_read_off_images_is_in_the_key_of_their_evaluation(
    read_by: str, more: tuple[str, ...]
) -> None:
    """Or a node that reads tubes otherwise would be judged by figures of the day before."""
    # What shows a run's progress, draws its pictures or keeps its stages changes no figure.
    beside = ("training.progress", "training.regeneration", "training.learning.loop")
    covered = (*LookMaking.code_of_evaluation, *more)
    missing = [
        name
        for name in sorted(_imported(read_by))
        if not any(name == each or name.startswith(f"{each}.") for each in (*covered, *beside))
    ]
    assert missing == []
