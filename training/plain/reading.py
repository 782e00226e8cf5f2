"""Reads phantoms with a network the way the product does, and compares with the truth, image by image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from schemas.bundle import Manifest
from schemas.codes import Device, DistanceBasis, Segment, TubePosition
from schemas.result import Point, TubeResult
from training.plain.films import Film, fresh_films
from training.plain.phantom.truth import SEGMENTS
from training.plain.targets import class_truth
from workers.bundle import normalised
from workers.interpret import Interpretation, interpret
from workers.networks.network import Network
from workers.output import ModelOutput
from workers.spacing import Spacing

#: A point of the true course counts as found within this distance of the traced one.
COURSE_TOLERANCE_MM = 5.0
_ORGANS = SEGMENTS[:3]


@dataclass(frozen=True)
class Reading:
    """One phantom: what was said and how far it is from the truth. NaN = not applicable or not located."""

    #: float32 [classes], sigmoid of the logits, and the truth (NaN where the question makes no sense).
    scores: NDArray[np.float32]
    truth: NDArray[np.float32]
    #: uint8 [S, S], for the baseline.
    image: NDArray[np.uint8]
    dice: dict[Segment, float]
    carina_error_mm: float
    has_tube: bool
    tip_error_mm: float
    distance_error_mm: float
    #: Share of the true course that was traced, 0..1; NaN without a tube.
    course_recall: float
    malpositioned: bool
    called_abnormal: bool


def read_films(
    network: Network, manifest: Manifest, seeds: Sequence[int], progress: Progress
) -> Iterator[tuple[Film, Interpretation, Reading]]:
    """Render, infer, interpret and compare each seed."""
    task = progress.add_task("Reading fresh phantoms", total=len(seeds))
    for film in fresh_films(seeds, manifest.preprocessing):
        output = infer(network, manifest, film.image)
        mm = film.phantom.mm_per_pixel
        # A phantom's millimetres are those of the patient.
        spacing = Spacing(mm, mm, DistanceBasis.CALIBRATED)
        interpretation = interpret(output, manifest, film.placement, spacing)
        yield film, interpretation, _compare(film, output, interpretation)
        progress.advance(task)


def infer(network: Network, manifest: Manifest, image: NDArray[np.uint8]) -> ModelOutput:
    """The network's output for one placed image uint8 [S, S]."""
    with torch.inference_mode():
        logits, attention, dense = network(normalised(image[None], manifest.preprocessing))
    side = round(attention.shape[-1] ** 0.5)
    maps = attention.mean(dim=1).reshape(logits.shape[1], side, side)
    return ModelOutput(logits[0].numpy(), maps.numpy().astype(np.float16), dense[0].numpy().astype(np.float16))


def said_of_tube(interpretation: Interpretation) -> TubeResult:
    """What is said of the tube; of a model without an operating point for its presence, nothing."""
    nothing = TubeResult(
        device=Device.ENDOTRACHEAL_TUBE, present=False, score=0.0, operating_point=None, calibrated=False
    )
    return next(iter(interpretation.tubes), nothing)


def _compare(film: Film, output: ModelOutput, interpretation: Interpretation) -> Reading:
    phantom = film.phantom
    mm = phantom.mm_per_pixel
    tube = said_of_tube(interpretation)
    tip_error = distance_error = recall = np.nan
    if phantom.tube is not None:
        recall = _course_recall(phantom.tube.course, tube.course, mm)
        if tube.tip is not None:
            tip_error = _distance(tube.tip, phantom.tube.tip) * mm
        if tube.tip_to_carina is not None and tube.tip_to_carina.millimetres is not None:
            distance_error = abs(tube.tip_to_carina.millimetres - phantom.tube.tip_to_carina_mm)
    empty = np.zeros(phantom.image.shape, dtype=np.bool_)
    return Reading(
        scores=(1 / (1 + np.exp(-output.logits))).astype(np.float32),
        truth=class_truth(phantom),
        image=film.image,
        dice={
            segment: _dice(interpretation.masks.get(segment, empty), truth)
            for segment, truth in zip(_ORGANS, phantom.masks, strict=False)
        },
        carina_error_mm=np.nan if tube.carina is None else _distance(tube.carina, phantom.carina) * mm,
        has_tube=phantom.tube is not None,
        tip_error_mm=tip_error,
        distance_error_mm=distance_error,
        course_recall=recall,
        malpositioned=phantom.tube is not None and phantom.tube.malpositioned,
        called_abnormal=tube.position is TubePosition.ABNORMAL,
    )


def _distance(a: Point, b: Point) -> float:
    return float(np.hypot(a.x - b.x, a.y - b.y))


def _dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))


def _course_recall(course: NDArray[np.float32], traced: list[Point], mm_per_pixel: float) -> float:
    if len(traced) < 2:
        return 0.0
    points = np.array([(point.x, point.y) for point in traced])
    steps = np.arange(0, len(points) - 1 + 1e-9, 0.02)
    line = np.stack([np.interp(steps, np.arange(len(points)), points[:, axis]) for axis in range(2)], axis=1)
    nearest = np.linalg.norm(course[:, None] - line[None], axis=2).min(axis=1)
    return float((nearest * mm_per_pixel <= COURSE_TOLERANCE_MM).mean())
