"""Reads a phantom as a variant stores it, through the node's own code, and compares with the phantom as it is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.codes import Device
from schemas.result import TubeResult
from tests.support.variants import Variant
from training.phantom.truth import Phantom
from workers.bundle import LoadedBundle, normalise
from workers.calibration import class_scores
from workers.interpret import Interpretation, interpret
from workers.output import ModelOutput
from workers.pixels import read_area, read_header
from workers.placement import Placement
from workers.preparation import Wanted, prepare
from workers.second_look import look_closer
from workers.spacing import image_spacing


@dataclass(frozen=True)
class Reading:
    """What was said of one file."""

    #: float32 [classes], 0..1.
    scores: NDArray[np.float64]
    interpretation: Interpretation


@dataclass(frozen=True)
class Change:
    """What another way of storing changed."""

    #: float64 [classes], absolute.
    scores: NDArray[np.float64]
    #: Between the tips, on the original image; NaN unless both were located.
    tip_mm: float
    #: Whether just one of them was.
    tip_lost_or_gained: bool
    #: Findings and tubes that are called otherwise.
    decisions: int


def read(bundle: LoadedBundle, phantom: Phantom, variant: Variant, folder: Path) -> Reading:
    """Write the file into `folder`, read it, and interpret what the network says of it."""
    path = folder / "film.dcm"
    variant.dataset(phantom).save_as(path, enforce_file_format=True)
    preprocessing, second_look = bundle.manifest.preprocessing, bundle.network.second_look
    (placed,) = prepare(path, [Wanted.by(bundle.manifest)])
    with torch.inference_mode():
        logits, _, dense = bundle.network(normalise(torch.from_numpy(placed.pixels)[None], preprocessing))
        looked = None
        if second_look is not None and placed.detail is not None:
            (looked,) = look_closer(
                dense.numpy(),
                [placed.detail],
                bundle.manifest,
                lambda crops: second_look(normalise(torch.from_numpy(crops), preprocessing)).numpy(),
            )
    output = ModelOutput(
        logits[0].numpy(),
        np.zeros((0, 1, 1), np.float16),
        dense[0].numpy().astype(np.float16),
        None if looked is None else looked.closer(),
    )
    header = read_header(path)
    placement = Placement.of(header.Rows, header.Columns, preprocessing, read_area(path))
    found = interpret(output, bundle.manifest, placement, image_spacing(header), age_years=phantom.age_years)
    return Reading(class_scores(output.logits, bundle.manifest.classes), found)


def change(bundle: LoadedBundle, phantom: Phantom, original: Reading, variant: Variant, folder: Path) -> Change:
    """What `variant` changes of the `original` reading (`read` of variants.ORIGINAL)."""
    other = read(bundle, phantom, variant, folder)
    tube, was = (_endotracheal(each.interpretation) for each in (other, original))
    tip_mm = np.nan
    if tube.tip is not None and was.tip is not None:
        tip = variant.back(phantom, tube.tip)
        tip_mm = float(np.hypot(tip.x - was.tip.x, tip.y - was.tip.y)) * phantom.imager_mm_per_pixel
    findings = zip(other.interpretation.findings, original.interpretation.findings, strict=True)
    return Change(
        scores=np.abs(other.scores.astype(np.float64) - original.scores),
        tip_mm=tip_mm,
        tip_lost_or_gained=(tube.tip is None) != (was.tip is None),
        decisions=sum(now.present != then.present for now, then in findings) + (tube.position != was.position),
    )


def _endotracheal(said: Interpretation) -> TubeResult:
    return next(each for each in said.tubes if each.device is Device.ENDOTRACHEAL_TUBE)
