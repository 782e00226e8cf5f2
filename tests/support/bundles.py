"""Bundles to activate in tests: small networks with random weights, and what is wrong with a bad one."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from schemas.bundle import Manifest, SecondLookHead
from schemas.codes import Landmark, Segment
from tests.support.tiny import tiny_manifest
from workers.bundle import write_bundle
from workers.networks.network import build_network


def write_tiny_bundle(folder: Path, name: str, version: str, seed: int = 0) -> Path:
    """A bundle of 64 x 64 pixels with weights of this seed; it computes an image in a few milliseconds."""
    torch.manual_seed(seed)
    manifest = tiny_manifest().model_copy(update={"name": name, "version": version})
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    write_bundle(folder, manifest, build_network(manifest).eval(), "# A bundle of a test\n", images)
    return folder


def with_second_look(manifest: Manifest) -> Manifest:
    """The manifest of a tiny bundle (64 pixels, a dense head) that looks again at crops of 64 of 192 pixels."""
    head = SecondLookHead(
        file="heads/second_look.safetensors",
        arguments={"widths": [8, 8, 16, 16, 16]},
        detail_size=192,
        crop=64,
        stride=4,
        channels=[Segment.ENDOTRACHEAL_TUBE, Landmark.ENDOTRACHEAL_TUBE_TIP, Landmark.CARINA],
    )
    return manifest.model_copy(update={"heads": [*manifest.heads, head]})


def write_looking_bundle(folder: Path) -> Path:
    """A bundle with a second look whose first one locates carinas somewhere in many images.

    Weights are random but for the dense head's last layer: with its own nothing would reach what a landmark has to.
    """
    torch.manual_seed(0)
    manifest = with_second_look(tiny_manifest())
    network = build_network(manifest).eval()
    assert network.dense is not None and network.dense.predict.bias is not None
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        network.dense.predict.bias.zero_()
        # Of the films of noise in tests/workers/test_engine_second_look.py about half get a carina.
        carina = manifest.channels.index(Landmark.CARINA)
        network.dense.predict.weight[carina] *= 20
        network.dense.predict.bias[carina] = -3.343
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    write_bundle(folder, manifest, network, "# A bundle of a test\n", images)
    return folder


def spoil(folder: Path) -> None:
    """Change the backbone's weights, so that the bundle loads and computes something else than when it was made."""
    path = folder / "backbone.safetensors"
    tensors = load_file(path)
    # Another file, not another content of a file that the registry may have linked.
    path.unlink()
    save_file({name: tensor * 3 if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}, path)
