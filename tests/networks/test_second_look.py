"""The second look in a bundle: a file of its own, loaded strictly, covered by the self-test."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.bundle import Manifest
from schemas.errors import BundleError
from tests.support.bundles import with_second_look, write_looking_bundle, write_tiny_bundle
from tests.support.tiny import tiny_manifest
from workers.bundle import load_bundle, run_selftest
from workers.networks.network import build_network
from workers.networks.second_look import SecondLook
from workers.rehead import rehead

FILE = Path("heads") / "second_look.safetensors"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_looking_bundle(tmp_path_factory.mktemp("looking") / "bundle")


def test_it_gives_a_map_per_channel_at_a_quarter_of_the_crop_from_about_a_million_weights() -> None:
    network = SecondLook(1, 3).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, 320, 320)).shape == (2, 3, 80, 80)
    assert 0.5e6 < sum(each.numel() for each in network.parameters()) < 1.5e6


def test_every_map_depends_on_the_finest_pixels_and_on_what_is_far_away() -> None:
    torch.manual_seed(0)
    # Of random weights little arrives from far away: more digits show it.
    network = SecondLook(1, 3).double().eval()
    crop = torch.rand(1, 1, 320, 320, dtype=torch.float64)
    here, far = crop.clone(), crop.clone()
    here[0, 0, 161, 161] += 1
    far[0, 0, 161, 261] += 1  # 4 cm beside it at 0.4 mm
    with torch.inference_mode():
        middle, *changed = (network(each)[0, :, 40, 40] for each in (crop, here, far))
    for each in changed:
        assert (each != middle).all()


def test_its_weights_are_a_file_of_the_bundle_and_stay_when_the_bundle_gets_other_classes(
    bundle: Path, tmp_path: Path
) -> None:
    loaded = load_bundle(bundle)
    assert loaded.network.second_look is not None
    assert load_file(bundle / FILE).keys() == loaded.network.second_look.state_dict().keys()
    made = rehead(loaded, ["a_class_of_its_own"], tmp_path / "made")
    assert made.network.second_look is not None
    for ours, theirs in zip(
        made.network.second_look.parameters(), loaded.network.second_look.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert run_selftest(made) <= 1e-5


def test_the_selftest_catches_altered_weights_of_the_second_look(bundle: Path, tmp_path: Path) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(bundle, altered)
    assert run_selftest(load_bundle(altered)) == 0
    tensors = load_file(altered / FILE)
    save_file({name: each * 2 if each.is_floating_point() else each for name, each in tensors.items()}, altered / FILE)
    with pytest.raises(BundleError, match="self-test"):
        run_selftest(load_bundle(altered))


def test_missing_weights_or_a_selftest_without_crops_are_named(bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(bundle, damaged)
    with np.load(damaged / "selftest.npz") as stored:
        arrays = {name: stored[name] for name in stored.files if name != "closer"}
    np.savez(damaged / "selftest.npz", **arrays)
    with pytest.raises(BundleError, match="closer"):
        run_selftest(load_bundle(damaged))
    (damaged / FILE).unlink()
    with pytest.raises(BundleError, match="second_look"):
        load_bundle(damaged)


def test_a_bundle_without_one_is_written_as_before(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle", "tiny", "1")
    with np.load(folder / "selftest.npz") as stored:
        assert set(stored.files) == {"images", "logits", "dense", "cls_token", "tolerance"}
    assert load_bundle(folder).network.second_look is None


def changed(**values: object) -> Manifest:
    manifest = with_second_look(tiny_manifest())
    assert manifest.second_look is not None
    heads = [*manifest.heads[:-1], manifest.second_look.model_copy(update=values)]
    return manifest.model_copy(update={"heads": heads})


@pytest.mark.parametrize("values", [{"stride": 2}, {"crop": 60}, {"crop": 256}], ids=str)
def test_a_second_look_that_cannot_be_built_is_refused_by_its_numbers(values: dict[str, int]) -> None:
    build_network(changed())
    with pytest.raises(BundleError, match="second look has stride 4"):
        build_network(changed(**values))
