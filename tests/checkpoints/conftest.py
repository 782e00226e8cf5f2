"""Published checkpoints in small, as files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from tests.checkpoints.layouts import (
    DEPTH,
    HEADS,
    REGISTERS,
    SIDE,
    WIDTH,
    chexfound_backbone,
    chunked,
    glori_head,
    grid,
)
from workers.bundle_command import bundle_group

FIRST, BEST = "linear:blocks=4:avgpool=False:lr=0_0001", "linear:blocks=4:avgpool=False:lr=0_0500"


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Writes content as torch.save does."""

    def saved(name: str, content: Any) -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return saved


@pytest.fixture
def teacher(save: Callable[[str, Any], Path]) -> Path:
    """The Drive layout with its pre-training heads."""
    heads = {"dino_head.mlp.0.weight": torch.zeros(2, 2), "ibot_head.last_layer.weight_g": torch.zeros(2, 1)}
    return save("teacher_checkpoint.pth", {"teacher": {**chunked(chexfound_backbone()), **heads}})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "some-config.yaml"
    student = {"arch": "custom", "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    student |= {"patch_size": 16, "ffn_layer": "swiglufused", "num_register_tokens": REGISTERS}
    path.write_text(yaml.safe_dump({"student": student, "crops": {"global_crops_size": 16 * SIDE}}))
    return path


@pytest.fixture
def glori_file(save: Callable[[str, Any], Path]) -> Path:
    """Two heads for 40 classes."""
    heads = {FIRST: glori_head(40, cat_cls=False, seed=7), BEST: glori_head(40, cat_cls=False, seed=8)}
    return save("glori.pth", {"model": grid(heads), "optimizer": {}, "scheduler": {}, "iteration": 9})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Between its documents stand headings, and the last document counts."""
    lines = [{"best_classifier": {"name": name, "results": {"class_auroc": {}}}} for name in (FIRST, BEST)]
    path = tmp_path / "results_eval_linear.json"
    path.write_text("iter: 9\n" + "\n\nTest\n".join(json.dumps(line) for line in lines) + "\n\n")
    return path


@pytest.fixture
def bundle_import(tmp_path: Path) -> Callable[..., Result]:
    """Runs `chexnode bundle import SYSTEM --out <tmp>/bundle ...`; errors come out as they are."""

    def run(system: str, *arguments: object) -> Result:
        line = ["import", system, "--out", str(tmp_path / "bundle"), *map(str, arguments)]
        return CliRunner().invoke(bundle_group, line, catch_exceptions=False)

    return run
