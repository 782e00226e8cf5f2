"""A small bundle with both heads, one with a second look, and one with a linear probe on a vision transformer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.bundle import Architecture, LinearHead, Manifest, ScoredClass
from schemas.preprocessing import Preprocessing
from tests.support.bundles import write_looking_bundle
from tests.support.tiny import tiny_manifest
from workers.bundle import LoadedBundle, load_bundle, write_bundle
from workers.networks.network import build_network


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hybrid backbone, GLoRI and dense head, 64 px."""
    return written(tmp_path_factory.mktemp("tiny") / "bundle", tiny_manifest()).folder


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three channels, vision transformer, linear probe, 64 px."""
    manifest = tiny_manifest().model_copy(
        update={
            "architecture": Architecture(
                timm_name="chexnode_vit_patch16",
                arguments={"img_size": 64, "embed_dim": 32, "depth": 4, "num_heads": 2, "hidden": 64},
            ),
            "preprocessing": Preprocessing(profile="chexfound", size=64, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
            "heads": [
                LinearHead(
                    file="heads/linear.safetensors",
                    classes=[ScoredClass(target=target, operating_point=0.5) for target in ("one", "other")],
                )
            ],
        }
    )
    return written(tmp_path_factory.mktemp("probe") / "bundle", manifest).folder


@pytest.fixture(scope="session")
def looking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny`, with a second look at crops of 64 px."""
    return write_looking_bundle(tmp_path_factory.mktemp("looking") / "bundle")


def written(folder: Path, manifest: Manifest) -> LoadedBundle:
    """A bundle of a network with random weights, far enough from zero to tell outputs apart."""
    torch.manual_seed(0)
    network = build_network(manifest).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    write_bundle(folder, manifest, network, "# card\n", images)
    return load_bundle(folder)
