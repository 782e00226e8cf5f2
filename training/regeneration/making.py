"""What the stages of a regeneration leave for each other."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from schemas.bundle import Metric
from training.evaluation.cases import Cases
from training.learning.loop import CurvePoint
from training.regeneration.stages import Stage
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
