"""A network that does what the brightness of an image's first pixel tells it: hangs, crashes, runs out of memory.

A bundle of it names this module in its folder's type, so that an engine process that is handed the folder imports it.
"""

import os
import signal
import time
from datetime import date
from enum import IntEnum
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models import register_model
from torch import Tensor, nn

from schemas.bundle import Architecture, GloriHead, Manifest, Population, ScoredClass
from schemas.preprocessing import Preprocessing
from workers.bundle import write_bundle
from workers.networks.features import Backbone, Features, refuse_pretrained
from workers.networks.network import build_network

SIZE = 32
#: More images than this in one batch do not fit into its memory.
FITTING = 2


class Poison(IntEnum):
    """What an image does: its first pixel is this number / 100."""

    NONE = 0
    EXIT = 1
    CRASH = 2
    RAISE = 3
    HANG = 4
    NOT_A_NUMBER = 5
    #: Does not fit into memory, not even alone.
    HUGE = 6
    #: Fits into memory with at most FITTING - 1 others.
    LARGE = 7
    #: Waits until the gate is opened.
    GATE = 8


class PoisonFolder(PosixPath):
    """The folder of a bundle of this network."""


def image(poison: Poison = Poison.NONE, value: int = 0) -> NDArray[np.float32]:
    """float32 [SIZE, SIZE]; `value` (0..99) is what the network writes into its log."""
    picture = np.random.default_rng(value).uniform(0.2, 0.8, (SIZE, SIZE)).astype(np.float32)
    picture[0, 0], picture[0, 1] = poison / 100, value / 100
    return picture


def poison_bundle(folder: Path) -> tuple[PoisonFolder, Manifest]:
    """Write a bundle of the network; beside it lie its `log` of computed values and, once opened, its `gate`."""
    torch.manual_seed(0)
    manifest = Manifest(
        name="poison",
        version="1",
        created=date(2026, 1, 1),
        architecture=Architecture(timm_name="test_poison", arguments={"beside": str(folder)}),
        preprocessing=Preprocessing(profile="letterbox", size=SIZE, mean=(0.0,), std=(1.0,)),
        heads=[
            GloriHead(
                file="heads/glori.safetensors",
                arguments={"width": 8, "heads": 1, "hidden": 8},
                classes=[ScoredClass(target="something", operating_point=0.5)],
            )
        ],
        population=Population(),
        training={},
        licence="Apache-2.0",
    )
    images = np.zeros((2, SIZE, SIZE), np.uint8)
    images[:, 8:16, 8:16] = 128
    write_bundle(folder, manifest, build_network(manifest).eval(), "# card\n", images)
    return PoisonFolder(folder), manifest


def log_of(folder: Path) -> list[int]:
    """The values of the images in the order in which the network computed them, its self-test (0) left out."""
    log = folder.with_name("log")
    return [value for value in map(int, log.read_text().split()) if value] if log.exists() else []


class _PoisonBackbone(Backbone):
    def __init__(self, beside: Path) -> None:
        super().__init__()
        self.channels, self.width, self.blocks_given, self.skip_channels = 1, 8, 1, ()
        self._beside = beside
        self.project = nn.Conv2d(1, 8, 8, stride=8)

    def forward(self, images: Tensor) -> Features:
        poisons = [Poison(round(float(each[0, 0, 0]) * 100)) for each in images]
        values = [round(float(each[0, 0, 1]) * 100) for each in images]
        with self._beside.with_name("log").open("a") as log:
            log.write("".join(f"{value}\n" for value in values))
        for poison in poisons:
            self._suffer(poison, len(images))
        tokens = self.project(images).flatten(2).transpose(1, 2)
        if Poison.NOT_A_NUMBER in poisons:
            tokens[poisons.index(Poison.NOT_A_NUMBER)] = torch.nan
        return Features([tokens], [tokens.mean(dim=1)], (SIZE // 8, SIZE // 8), [])

    def _suffer(self, poison: Poison, batch: int) -> None:
        if poison is Poison.EXIT:
            os._exit(3)
        if poison is Poison.CRASH:
            os.kill(os.getpid(), signal.SIGSEGV)
        if poison is Poison.RAISE:
            raise ValueError("a poisonous image")
        if poison is Poison.HANG:
            time.sleep(3600)
        if poison is Poison.HUGE or (poison is Poison.LARGE and batch > FITTING):
            torch.empty(1 << 60, dtype=torch.uint8)
        while poison is Poison.GATE and not self._beside.with_name("gate").exists():
            time.sleep(0.01)


@register_model
def test_poison(pretrained: bool = False, *, beside: str, **timm_arguments: Any) -> _PoisonBackbone:
    refuse_pretrained("test_poison", pretrained, timm_arguments)
    return _PoisonBackbone(Path(beside))
