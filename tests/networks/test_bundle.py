import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from schemas.bundle import bundle_digest
from schemas.errors import BundleError
from tests.support.tiny import tiny_manifest
from workers.bundle import LoadedBundle, load_bundle, run_selftest, write_bundle
from workers.networks.network import build_network

GLORI = Path("heads") / "glori.safetensors"


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)


@pytest.fixture
def bundle(tmp_path: Path, images: NDArray[np.uint8]) -> LoadedBundle:
    torch.manual_seed(0)
    manifest = tiny_manifest()
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


@pytest.mark.parametrize("file", ["../weights.safetensors", "/weights.safetensors", "heads/../../weights.safetensors"])
def test_a_bundle_loads_no_file_from_outside_its_folder(bundle: LoadedBundle, file: str) -> None:
    document = json.loads((bundle.folder / "manifest.json").read_text(encoding="utf-8"))
    for part in ({"backbone_file": file}, {"heads": [{**document["heads"][0], "file": file}]}):
        (bundle.folder / "manifest.json").write_text(json.dumps({**document, **part}), encoding="utf-8")
        with pytest.raises(BundleError, match="should match pattern"):
            load_bundle(bundle.folder)


def test_a_link_to_a_folder_is_refused_since_its_files_would_be_neither_hashed_nor_copied(
    bundle: LoadedBundle, tmp_path: Path
) -> None:
    (bundle.folder / "heads").rename(tmp_path / "elsewhere")
    (bundle.folder / "heads").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="heads is a link to a folder"):
        load_bundle(bundle.folder)


def test_one_output_that_is_no_number_fails_the_selftest(bundle: LoadedBundle) -> None:
    with np.load(bundle.folder / "selftest.npz") as stored:
        logits, dense = stored["logits"], stored["dense"].astype(np.float32)
    dense[0, 0, 0, 0] = np.nan
    with pytest.raises(BundleError, match="differs by nan"):
        run_selftest(bundle, lambda images: (logits, dense))


@pytest.mark.parametrize("changed", [{"tolerance": np.float32(np.inf)}, {"images": np.zeros((0, 64, 64), np.uint8)}])
def test_a_selftest_that_tests_nothing_is_none(bundle: LoadedBundle, changed: dict[str, NDArray[np.generic]]) -> None:
    with np.load(bundle.folder / "selftest.npz") as stored:
        arrays = dict(stored)
    np.savez(bundle.folder / "selftest.npz", **{**arrays, **changed})
    with pytest.raises(BundleError, match="tests nothing"):
        run_selftest(bundle)
