import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from schemas.bundle import bundle_digest
from schemas.errors import BundleError
from tests.training.tiny_recipe import TINY
from training.regenerate import initial_manifest
from workers.bundle import LoadedBundle, load_bundle, run_selftest, write_bundle
from workers.networks.network import build_network

GLORI = Path("heads") / "glori.safetensors"


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)


@pytest.fixture
def bundle(tmp_path: Path, images: NDArray[np.uint8]) -> LoadedBundle:
    torch.manual_seed(0)
    manifest = initial_manifest(TINY)
    return write_bundle(tmp_path / "bundle", manifest, build_network(manifest).eval(), "# card\n", images)


def test_what_was_written_loads_to_the_same_outputs(bundle: LoadedBundle) -> None:
    loaded = load_bundle(bundle.folder)
    sample = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(bundle.network(sample), loaded.network(sample), strict=True):
            assert torch.equal(ours, theirs)
    assert all(p.dtype == torch.float32 for p in loaded.network.parameters())
    assert loaded.digest == bundle_digest(bundle.folder)
    assert not loaded.network.training


def test_writing_again_replaces_the_bundle_and_leaves_nothing_beside_it(
    bundle: LoadedBundle, images: NDArray[np.uint8]
) -> None:
    write_bundle(bundle.folder, bundle.manifest, bundle.network, "# another card\n", images)
    assert (bundle.folder / "card.md").read_text(encoding="utf-8") == "# another card\n"
    assert [path.name for path in bundle.folder.parent.iterdir()] == ["bundle"]


def test_missing_and_unexpected_tensors_are_named(bundle: LoadedBundle) -> None:
    tensors = load_file(bundle.folder / GLORI)
    tensors["decoder.surprise"] = tensors.pop("decoder.duplicate_pooling_bias")
    save_file(tensors, bundle.folder / GLORI)
    with pytest.raises(BundleError, match=r"missing: decoder\.duplicate_pooling_bias; unexpected: decoder\.surprise"):
        load_bundle(bundle.folder)


def test_a_misshapen_or_broken_tensor_is_named(bundle: LoadedBundle) -> None:
    tensors = load_file(bundle.folder / GLORI)
    tensors["decoder.duplicate_pooling_bias"] = torch.zeros(3)
    tensors["decoder.embed_standart.bias"][0] = torch.nan
    save_file(tensors, bundle.folder / GLORI)
    with pytest.raises(BundleError, match=r"another shape: \S*pooling_bias; not finite: \S*embed_standart\.bias"):
        load_bundle(bundle.folder)


@pytest.mark.parametrize("name", ["backbone.safetensors", "selftest.npz"])
def test_a_damaged_or_missing_file_is_a_bundle_error(bundle: LoadedBundle, name: str) -> None:
    path = bundle.folder / name
    for damage in (lambda: path.write_bytes(path.read_bytes()[:100]), path.unlink):
        damage()
        with pytest.raises(BundleError, match=name):
            run_selftest(load_bundle(bundle.folder))


@pytest.mark.parametrize("file", ["backbone.safetensors", "heads/glori.safetensors", "heads/dense.safetensors"])
def test_the_selftest_catches_altered_weights_in_any_part(bundle: LoadedBundle, file: str, tmp_path: Path) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(bundle.folder, altered)
    assert run_selftest(load_bundle(altered)) == 0
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator).half()
        if tensor.is_floating_point()
        else tensor
        for name, tensor in load_file(altered / file).items()
    }
    tensors = {name: tensor.abs() if name.endswith("running_var") else tensor for name, tensor in tensors.items()}
    save_file(tensors, altered / file)
    with pytest.raises(BundleError, match="self-test"):
        run_selftest(load_bundle(altered))
