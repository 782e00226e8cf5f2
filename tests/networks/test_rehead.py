from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from schemas.bundle import read_manifest
from schemas.errors import BundleMakingError
from tests.support.tiny import tiny_manifest
from workers.bundle import LoadedBundle, load_bundle, run_selftest, write_bundle
from workers.bundle_command import bundle_group
from workers.checkpoints.importing import selftest_images
from workers.networks.network import build_network

NEW = ["nodule", "mass", "pleural_effusion"]


@pytest.fixture
def bundle(tmp_path: Path) -> LoadedBundle:
    """Two heads; the first class has another operating point than the rest."""
    torch.manual_seed(0)
    manifest = tiny_manifest()
    head = manifest.classifier
    assert head is not None
    first = head.classes[0].model_copy(update={"operating_point": 0.25})
    with_point = head.model_copy(update={"classes": [first, *head.classes[1:]]})
    heads = [with_point if each is head else each for each in manifest.heads]
    manifest = manifest.model_copy(update={"heads": heads})
    network = build_network(manifest).eval()
    return write_bundle(tmp_path / "old", manifest, network, "# old card\n", selftest_images(64))


def _rehead(bundle: LoadedBundle, out: Path, classes: str) -> LoadedBundle:
    line = ["rehead", str(bundle.folder), "--classes", classes, "--out", str(out)]
    CliRunner().invoke(bundle_group, line, catch_exceptions=False)
    return load_bundle(out)


def test_classes_that_stay_answer_as_before_and_new_ones_are_called_untrained(
    bundle: LoadedBundle, tmp_path: Path
) -> None:
    made = _rehead(bundle, tmp_path / "new", ",".join(NEW))
    assert run_selftest(made) <= 1e-5
    assert [c.target for c in made.manifest.classes] == NEW
    old = [c.target for c in bundle.manifest.classes]
    images = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        before, after = bundle.network(images), made.network(images)
    for new, name in enumerate(NEW):
        if name in old:
            assert torch.allclose(after.logits[:, new], before.logits[:, old.index(name)], atol=1e-5)
            assert torch.allclose(after.attention[:, :, new], before.attention[:, :, old.index(name)], atol=1e-6)
    assert torch.allclose(after.dense, before.dense, atol=1e-5)
    points = [c.operating_point for c in made.manifest.classes]
    assert points == [0.5, None, 0.25]
    assert made.manifest.training["untrained_classes"] == ["mass"]
    assert made.manifest.training["reheaded_from"] == bundle.digest
    card = (made.folder / "card.md").read_text(encoding="utf-8")
    assert "Untrained, so its scores mean nothing yet: mass" in card and "> # old card" in card
    # The bundle that it was made from still is what it was.
    assert load_bundle(bundle.folder).digest == bundle.digest


def test_a_class_of_which_no_result_speaks_is_called_that(bundle: LoadedBundle, tmp_path: Path) -> None:
    line = ["rehead", str(bundle.folder), "--classes", "nodule,my_finding", "--out", str(tmp_path / "new")]
    printed = CliRunner().invoke(bundle_group, line, catch_exceptions=False).output
    assert "no code for my_finding, so no result speaks of it" in printed


def test_the_same_seed_makes_the_same_bundle(bundle: LoadedBundle, tmp_path: Path) -> None:
    digests = {_rehead(bundle, tmp_path / name, ",".join(NEW)).digest for name in ("a", "b")}
    assert len(digests) == 1


@pytest.mark.parametrize("classes", ["nodule,nodule", "Not a name", " , "])
def test_names_that_cannot_be_classes_are_refused(bundle: LoadedBundle, tmp_path: Path, classes: str) -> None:
    with pytest.raises(BundleMakingError, match=r"twice|is no class|names no class"):
        _rehead(bundle, tmp_path / "new", classes)
    assert not (tmp_path / "new").exists()


def test_the_bundle_itself_is_not_overwritten(bundle: LoadedBundle) -> None:
    with pytest.raises(BundleMakingError, match="is a bundle already"):
        _rehead(bundle, bundle.folder, "nodule")
    assert read_manifest(bundle.folder) == bundle.manifest
