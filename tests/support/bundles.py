"""Bundles to activate in tests: small networks with random weights, and what is wrong with a bad one."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tests.training.tiny_recipe import TINY
from training.regenerate import initial_manifest
from workers.bundle import write_bundle
from workers.networks.network import build_network


def write_tiny_bundle(folder: Path, name: str, version: str, seed: int = 0) -> Path:
    """A bundle of 64 x 64 pixels with weights of this seed; it computes an image in a few milliseconds."""
    torch.manual_seed(seed)
    manifest = initial_manifest(TINY).model_copy(update={"name": name, "version": version})
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    write_bundle(folder, manifest, build_network(manifest).eval(), "# A bundle of a test\n", images)
    return folder


def spoil(folder: Path) -> None:
    """Change the backbone's weights, so that the bundle loads and computes something else than when it was made."""
    path = folder / "backbone.safetensors"
    tensors = load_file(path)
    # Another file, not another content of a file that the registry may have linked.
    path.unlink()
    save_file({name: tensor * 3 if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}, path)
