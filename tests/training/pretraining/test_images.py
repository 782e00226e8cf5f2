"""Who enters a pre-training, and the commands from a folder of films to a table."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.progress import Progress

from schemas.errors import SettingsError, SourceError
from schemas.preprocessing import Preprocessing
from tests.training.pretraining.tiny import tiny_recipe
from tests.training.sources import layouts
from training.curation.curate import curate
from training.curation.manifest import CuratedImage, read_manifest
from training.curation.settings import CurationSettings
from training.curation.shards import write_shards
from training.curation.split import SplitShares
from training.examples.placing import place
from training.pretraining import filling
from training.pretraining.filling import Filling
from training.pretraining.images import SPLITS, Given, recipe_images
from training.pretraining.store import Store, open_store
from training.sources.catalogue import parse
from training.sources.folder import Folder
from training.sources.source import Split
from training.train_command import train_group

_SHARES = {"shares": {"val": 0.25, "test": 0.35}, "corners": 0}
_PLACING = Preprocessing(profile="letterbox", size=64, mean=(0.5,), std=(0.25,))
_RECIPE = """
name = "own"
version = "1"
licence = "Apache-2.0"
checkpoint_every = 2
preprocessing = { profile = "letterbox", size = 64, mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] }
[backbone]
timm_name = "chexnode_vit_patch16"
[backbone.arguments]
embed_dim = 64
depth = 4
num_heads = 2
hidden = 96
ffn = "mlp"
reg_tokens = 0
layer_scale = false
mask_token = false
[method]
kind = "mae"
view = { scale = [0.3, 1.0] }
decoder_width = 32
decoder_depth = 1
decoder_heads = 2
[optimizer]
rate = 0.01
weight_decay = { start = 0.05, end = 0.05 }
[[stages]]
name = "64"
sizes = [64]
steps = 4
warm_up_steps = 1
batch = 8
[data]
sources = ["folder"]
curation = { shares = { val = 0.25, test = 0.35 }, key = "e" }
[probe]
every = 2
targets = ["pneumothorax"]
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of each of twelve patients; every other patient has a pneumothorax."""
    return layouts.folder(tmp_path_factory.mktemp("films"), patients=12)


def _images(films: Path, folder: Path, held_out: tuple[CuratedImage, ...] = ()) -> dict[Split, Store]:
    recipe = tiny_recipe("mae", data={"sources": ["folder"], "curation": _SHARES})
    with Progress(disable=True) as progress:
        given = Given([parse(f"folder={films}")], held_out=held_out)
        return recipe_images(recipe, given, folder, Filling(_PLACING, progress), SPLITS)


def test_no_patient_of_the_test_images_is_learned_from(films: Path, tmp_path: Path) -> None:
    stores = _images(films, tmp_path)
    patients = {split: set(store.owners) for split, store in stores.items()}
    assert sum(len(store) for store in stores.values()) == 24
    assert sum(len(each) for each in patients.values()) == 12
    assert min(len(each) for each in patients.values()) >= 1
    assert not any("P" in owner.removeprefix("folder ") for owner in patients["train"])
    # Held out by another evaluation: they and their films leave.
    frozen = [image for image in read_manifest(tmp_path / "curation") if image.split == "train"][:2]
    held = _images(films, tmp_path / "again", tuple(frozen))
    assert len(held["train"]) < len(stores["train"])
    assert patients["test"] == set(held["test"].owners)


def test_squares_are_the_films_and_are_not_placed_twice(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _images(films, tmp_path)["train"]
    squares = first.images.take(np.arange(len(first)))
    assert squares.shape[1:] == (64, 64)
    assert squares.std() > 10
    known = first.labels_of(["pneumothorax", "pleural_effusion"])
    assert set(known[:, 0]) == {0.0, 1.0}
    assert np.isnan(known[:, 1]).all()

    def never(*_: object) -> None:
        raise AssertionError("placed twice")

    monkeypatch.setattr(filling, "place", never)
    again = _images(films, tmp_path)["train"]
    assert np.array_equal(again.images.take(np.arange(len(again))), squares)


def test_placing_that_was_killed_goes_on(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "_CHUNK", 100)
    whole = _images(films, tmp_path / "whole")["train"]
    calls = 0

    def dies(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return place(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(filling, "place", dies)
        _images(films, tmp_path / "killed")
    after = _images(films, tmp_path / "killed")["train"]
    rows = np.arange(len(whole))
    assert np.array_equal(after.images.take(rows), whole.images.take(rows))
    assert np.array_equal(after.labels, whole.labels, equal_nan=True)


def test_shards_are_read_as_the_folder_is(films: Path, tmp_path: Path) -> None:
    settings = CurationSettings(shares=SplitShares(val=0.25, test=0.35), corners=0)
    recipe = tiny_recipe("mae")
    with Progress(disable=True) as progress:
        made = curate([Folder(films)], settings, tmp_path, progress, processes=1)
        write_shards(made, tmp_path, 512, progress)
        given = Given(shards=[tmp_path])
        stores = recipe_images(recipe, given, tmp_path / "data", Filling(_PLACING, progress), SPLITS)
    sizes = {split: sum(image.split == split for image in made.images) for split in SPLITS}
    assert {split: len(store) for split, store in stores.items()} == sizes
    patients = {split: set(store.owners) for split, store in stores.items()}
    assert not patients["train"] & (patients["val"] | patients["test"])
    assert stores["train"].images.take(np.array([0])).std() > 10


def test_without_images_it_says_what_to_give(tmp_path: Path) -> None:
    recipe = tiny_recipe("mae", data={"sources": ["nih"]})
    with Progress(disable=True) as progress, pytest.raises(SettingsError, match="--source KIND=FOLDER"):
        recipe_images(recipe, Given(), tmp_path, Filling(_PLACING, progress), SPLITS)
    with pytest.raises(SourceError, match="no images"):
        open_store(tmp_path)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(train_group, arguments, catch_exceptions=False)


def test_from_films_to_a_bundle_and_a_table(films: Path, tmp_path: Path) -> None:
    recipe, source = tmp_path / "own.toml", f"folder={films}"
    recipe.write_text(_RECIPE)
    out = tmp_path / "compared"
    trained = _run("pretrain", str(recipe), "--out", str(out / "own"), "--data", str(out / "data"), "--source", source)
    assert "AUROC of neighbours" in trained.output
    file = out / "own" / "1-64" / "trained.pt"
    assert str(file) in trained.output.replace("\n", "")
    assert "written" in _run("export", str(file), "--out", str(tmp_path / "bundle")).output
    written = file.stat().st_mtime_ns
    options = ["--protocol", "linear", "--percent", "50", "--percent", "100", "--draws", "2", "--probe-steps", "5"]
    table = _run("compare", str(recipe), "--out", str(out), "--source", source, *options).output
    # Pre-trained already: what is there is used.
    assert file.stat().st_mtime_ns == written
    assert "own, random" in table
    scores = json.loads((out / "comparison.json").read_text())["scores"]
    assert {(score["contestant"], score["share"]) for score in scores} == {
        (name, share) for name in ("own", "own, random") for share in (0.5, 1.0)
    }
    assert (out / "comparison.png").exists()


def test_every_recipe_is_listed(tmp_path: Path) -> None:
    listed = _run("pretrain", "--list").output
    assert all(name in listed for name in ("chexfound", "cxrbase", "spcxr", "chess", "dinov2-small"))
    with pytest.raises(SettingsError, match="dinov2-small"):
        _run("pretrain", "nothing", "--out", str(tmp_path))
