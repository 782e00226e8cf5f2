"""What is particular to a kind of recipe: how its network is trained, and how bundles are read on its frozen cases.

regenerate.py does the rest, the same for all of them. Here too is what stages leave for each other.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from schemas.bundle import Metric
from training.evaluation.cases import Cases
from training.learning.loop import CurvePoint
from training.regeneration.stages import Stage, Stages
from workers.bundle import LoadedBundle
from workers.networks.network import Network

#: Of a stage's folder: the bundle as far as it is made.
BUNDLE = "bundle"
DRAFT_CARD = "A draft: a stage of a training run, not for use.\n"
_CURVE = "curve.json"


@dataclass(frozen=True)
class Evaluated:
    """What is known of a bundle after its evaluation."""

    cases: Cases
    #: For the manifest.
    metrics: list[Metric]


class Making(Protocol):
    """The particular of one recipe."""

    @property
    def data(self) -> str:
        """What it is trained on, in words."""

    @property
    def attribution(self) -> Sequence[str]:
        """The real sources that were learned from, for the card."""

    @property
    def code_of_evaluation(self) -> Sequence[str]:
        """Modules that decide what `evaluate` and `cases` give."""

    def train(self, stages: Stages) -> Stage:
        """Everything up to calibration; the last of these stages has the draft bundle as `BUNDLE`."""

    def evaluate(self, bundle: LoadedBundle, folder: Path) -> Evaluated:
        """Read the frozen cases with the bundle that was trained; PNG files in `folder` are shown in the report."""

    def cases(self, bundle: LoadedBundle) -> Cases:
        """What any other bundle says of the same cases."""

    @property
    def patients(self) -> Any:
        """What decides whose radiographs `on_patients` reads, as JSON or pydantic documents; None: there are none."""

    def on_patients(self, bundle: LoadedBundle, folder: Path) -> list[Metric]:
        """Figures on radiographs of patients whom nothing was learned from; PNG files as with `evaluate`."""


def round_to_stored_precision(network: Network) -> None:
    """Operating points and figures belong to the weights that are shipped, which are float16."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())


def save_curve(curve: Sequence[CurvePoint], folder: Path) -> None:
    """Keep the curve of a training in its stage."""
    (folder / _CURVE).write_text(json.dumps([asdict(point) for point in curve]), encoding="utf-8")


def curves(stages: Sequence[Stage]) -> dict[str, list[CurvePoint]]:
    """The curves of all trainings, by the name of their stage."""
    kept = {stage.document.name: stage.folder / _CURVE for stage in stages}
    return {
        name: [CurvePoint(**point) for point in json.loads(path.read_text(encoding="utf-8"))]
        for name, path in kept.items()
        if path.exists()
    }
