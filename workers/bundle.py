"""Model bundles on disk: written by training, read and checked by the inference engine before it serves."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from schemas.bundle import MANIFEST_FILE, Manifest, bundle_digest, read_manifest
from schemas.errors import BundleError
from workers.networks.network import Network, NetworkOutput, build_network

CARD_FILE = "card.md"
SELFTEST_FILE = "selftest.npz"
#: Greatest difference of any logit that another CPU or build of torch may show; a different network shows far more.
SELFTEST_TOLERANCE = 0.05


@dataclass(frozen=True)
class LoadedBundle:
    """A bundle ready to run."""

    manifest: Manifest
    #: SHA-256 (hex) over the whole folder.
    digest: str
    #: float32, evaluation mode.
    network: Network
    folder: Path


def load_bundle(folder: Path) -> LoadedBundle:
    """Load a bundle strictly: every tensor of the files is in the network and the other way round.

    Raises BundleError that names missing, unexpected and misshapen tensors.
    """
    manifest = read_manifest(folder)
    network = build_network(manifest)
    for file, module in _parts(manifest, network).items():
        _load_strictly(folder / file, module)
    return LoadedBundle(manifest, bundle_digest(folder), network.eval(), folder)


def write_bundle(
    folder: Path, manifest: Manifest, network: Network, card: str, selftest_images: NDArray[np.uint8]
) -> LoadedBundle:
    """Write a bundle and load it back; the folder appears, or is replaced, only when everything is written.

    Parameters
    ----------
    network : weights are stored as float16
    card : the model card, Markdown
    selftest_images : uint8 [n, S, S], inputs before normalisation (0..255 for 0..1)
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "heads").mkdir(parents=True)
    (partial / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (partial / CARD_FILE).write_text(card, encoding="utf-8")
    for file, module in _parts(manifest, network).items():
        save_file({name: _stored(tensor) for name, tensor in module.state_dict().items()}, partial / file)
        # save_file makes it private to the user, but a service account has to read it.
        (partial / file).chmod(0o644)
    # Expected outputs come from the weights as stored, not from those in memory.
    output = _run(load_bundle(partial), selftest_images)
    np.savez_compressed(
        partial / SELFTEST_FILE,
        images=selftest_images,
        logits=output.logits.numpy(),
        dense=output.dense.numpy().astype(np.float16),
        tolerance=np.float32(SELFTEST_TOLERANCE),
    )
    _replace(partial, folder)
    return load_bundle(folder)


def run_selftest(bundle: LoadedBundle) -> float:
    """Run the bundle's own examples; the greatest difference of a logit from the expected one.

    Raises BundleError when it exceeds the tolerance stated in the bundle, or when there is no usable self-test.
    """
    path = bundle.folder / SELFTEST_FILE
    try:
        with np.load(path, allow_pickle=False) as stored:
            images, tolerance = stored["images"], float(stored["tolerance"])
            logits, dense = stored["logits"], stored["dense"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise BundleError(f"{path} is no self-test: {error}") from error
    output = _run(bundle, images)
    if output.logits.shape != logits.shape or output.dense.shape != dense.shape:
        raise BundleError(f"{bundle.folder} gives outputs of another shape than its self-test expects.")
    # Dense logits are stored as float16, which rounds the large ones: half a unit in the last place is no difference.
    rounding = np.abs(dense) * 2.0**-11
    difference = max(
        float(np.abs(output.logits.numpy() - logits).max()),
        float((np.abs(output.dense.numpy() - dense) - rounding).max()),
    )
    if not difference <= tolerance:
        raise BundleError(
            f"The self-test of {bundle.folder} differs by {difference:.3g} where {tolerance:.3g} is allowed: "
            "the weights, the software or the hardware are not those it was made with."
        )
    return difference


def normalised(images: NDArray[np.uint8], manifest: Manifest) -> Tensor:
    """Network input float32 [n, 1, S, S] from letterboxed images uint8 [n, S, S]."""
    preprocessing = manifest.preprocessing
    scaled = torch.from_numpy(np.array(images)).float()[:, None] / 255
    return (scaled - preprocessing.mean) / preprocessing.std


def _run(bundle: LoadedBundle, images: NDArray[np.uint8]) -> NetworkOutput:
    with torch.inference_mode():
        output: NetworkOutput = bundle.network(normalised(images, bundle.manifest))
    return output


def _parts(manifest: Manifest, network: Network) -> dict[str, nn.Module]:
    """Which file holds which part's tensors."""
    return {
        manifest.backbone_file: network.backbone,
        manifest.glori.file: network.glori,
        manifest.dense.file: network.dense,
    }


def _stored(tensor: Tensor) -> Tensor:
    return (tensor.half() if tensor.is_floating_point() else tensor).contiguous()


def _load_strictly(path: Path, module: nn.Module) -> None:
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    own = module.state_dict()
    problems = {
        "missing": sorted(own.keys() - stored.keys()),
        "unexpected": sorted(stored.keys() - own.keys()),
        "of another shape": sorted(n for n in own.keys() & stored.keys() if own[n].shape != stored[n].shape),
        "not finite": sorted(n for n, tensor in stored.items() if not tensor.isfinite().all()),
    }
    found = "; ".join(f"{what}: {', '.join(names)}" for what, names in problems.items() if names)
    if found:
        raise BundleError(f"{path} does not fit the manifest's network. Tensors {found}.")
    module.load_state_dict(stored, strict=True)


def _replace(partial: Path, folder: Path) -> None:
    """Put the finished folder in its place; a crash leaves the old one (perhaps as .old) or the new one."""
    for path in partial.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
