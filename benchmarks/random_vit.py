"""The published foundation model's shape with random weights, for benchmarks: ViT-L/16 at 512 px with GLoRI 40."""

from datetime import date
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from schemas.bundle import Architecture, GloriHead, Manifest, Population, ScoredClass
from schemas.preprocessing import PROFILES
from workers.bundle import LoadedBundle
from workers.networks.network import Network, build_network

CLASSES = 40


def random_vit(folder: Path) -> LoadedBundle:
    """As if loaded from `folder`, which need not exist: converted models are kept beside it."""
    manifest = Manifest(
        name="random-vit-l16",
        version="0",
        created=date(2026, 1, 1),
        architecture=Architecture(timm_name="chexnode_vit_patch16"),
        preprocessing=PROFILES["chexfound"],
        heads=[
            GloriHead(
                file="heads/glori.safetensors",
                arguments={"width": 768, "heads": 8, "hidden": 2048, "cat_cls": True},
                classes=[ScoredClass(target=f"class_{number}", operating_point=0.5) for number in range(CLASSES)],
            )
        ],
        population=Population(),
        training={},
        licence="Apache-2.0",
    )
    torch.manual_seed(0)
    return LoadedBundle(manifest, "0" * 64, build_network(manifest).eval(), folder)


def flops(network: Network, size: int) -> int:
    """Of the matrix products and convolutions of one image, a multiplication and an addition being two."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops())
