"""The smallest recipe of each method, and images for it; also a program of its own.

`python -m tests.training.pretraining.tiny METHOD FOLDER` trains alone, to be killed; under torchrun it trains twice, in
FOLDER/ddp and FOLDER/fsdp.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from schemas.preprocessing import Preprocessing
from training.pretraining.parallel import Processes, Strategy, processes
from training.pretraining.recipe import PretrainingRecipe
from training.pretraining.store import Squares, Store, StoreDocument
from training.pretraining.trainer import Images, Machine, pretrain

METHODS = ("dinov2", "mae", "gmml", "sit", "moco_v2")
#: Attention heads, which shapes do not tell.
HEADS = 2
_VIT = {"embed_dim": 64, "depth": 4, "num_heads": HEADS, "hidden": 96, "in_chans": 3}
_PLAIN = {**_VIT, "ffn": "mlp", "reg_tokens": 0, "layer_scale": False, "mask_token": False, "interpolate_offset": 0.0}
_CROP = {"scale": (0.3, 1.0), "jitter": 0.8, "blur": 0.5}


def _global_views() -> list[dict[str, Any]]:
    return [_CROP, {**_CROP, "solarize": 0.2}]


_TABLES: dict[str, dict[str, Any]] = {
    "dinov2": {
        "global_views": _global_views(),
        "local_view": {"count": 2, "scale": (0.05, 0.3)},
        "prototypes": 64,
        "head_hidden": 32,
        "head_bottleneck": 16,
        "patch_head_bottleneck": 16,
        "still_prototypes": 2,
        "drop_path": 0.2,
    },
    "mae": {"view": _CROP, "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2},
    "gmml": {"view": {**_CROP, "count": 2}},
    "sit": {"views": _global_views(), "head_hidden": 32, "head_width": 16},
    "moco_v2": {"view": {"count": 2, "move": 0.5, "noise": 0.5}, "queue": 32, "head_width": 16, "batch_norm_groups": 2},
}
_SIZES = {"dinov2": [64, 64, 32], "sit": [64, 64]}


def tiny_recipe(kind: str, **changes: Any) -> PretrainingRecipe:
    """Six steps of eight images of 64 pixels."""
    grey = kind == "moco_v2"
    backbone = {"timm_name": "chexnode_vit_patch16", "arguments": _PLAIN}
    if grey:
        # A transformer here as well: of ResNet-18 every checkpoint has 130 MB.
        backbone = {"timm_name": "chexnode_vit_patch16", "arguments": {**_PLAIN, "in_chans": 1}}
    if kind == "dinov2":
        backbone = {"timm_name": "chexnode_vit_patch16", "arguments": {**_VIT, "ffn": "swiglu"}}
    channels = 1 if grey else 3
    tables = {
        "name": f"tiny-{kind.replace('_', '-')}",
        "version": "0",
        "licence": "Apache-2.0",
        "checkpoint_every": 2,
        "backbone": backbone,
        "preprocessing": {"profile": "letterbox", "size": 64, "mean": [0.5] * channels, "std": [0.25] * channels},
        "method": {"kind": kind, **_TABLES[kind]},
        "optimizer": {
            "kind": "sgd" if grey else "adamw",
            "rate": 0.01,
            "weight_decay": {"start": 0.04, "end": 0.2},
            "clipped_at": 3.0,
            "patch_embedding": 0.2,
        },
        "stages": [{"name": "64", "sizes": _SIZES.get(kind, [64]), "steps": 6, "warm_up_steps": 1, "batch": 8}],
        "data": {},
    }
    return PretrainingRecipe.model_validate({**tables, **changes})


def drawn_store(count: int = 24, side: int = 64, seed: int = 0) -> Store:
    """Blots; in every third image a bright square says "nodule". Two images of each patient."""
    rng = np.random.default_rng(seed)
    images = np.kron(rng.integers(40, 160, (count, 8, 8)), np.ones((1, side // 8, side // 8))).astype(np.uint8)
    labels = np.full((count, 2), np.nan, np.float32)
    labels[:, 0] = np.arange(count) % 3 == 0
    for index in range(0, count, 3):
        images[index, side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 250
    document = StoreDocument(
        preprocessing=Preprocessing(profile="squares", size=side, mean=(0.0,), std=(1.0,)),
        targets=["nodule", "mass"],
        patients=[f"p{index // 2}" for index in range(count)],
        sources=["drawn" if index < count // 2 else "other" for index in range(count)],
        origin=f"{count} {side} {seed}",
    )
    return Store(Squares([images]), labels, document)


def train(
    recipe: PretrainingRecipe, out: Path, among: Processes, strategy: Strategy = "ddp", accumulate: int = 1
) -> Path:
    """Pre-train in `out`; the file of what was learned."""
    with Progress(disable=True) as progress:
        machine = Machine(among, strategy, accumulate, report_every=1)
        return pretrain(recipe, Images(drawn_store()), out, machine, progress)


if __name__ == "__main__":
    with processes() as here:
        asked, folder = tiny_recipe(sys.argv[1], precision="float32"), Path(sys.argv[2])
        if here.count == 1:
            train(asked, folder, here)
        else:
            train(asked, folder / "ddp", here, "ddp")
            train(asked, folder / "fsdp", here, "fsdp")
