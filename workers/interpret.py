"""From a model's raw output to what is said about the image: findings, tubes and regions in image coordinates.

Pure and repeatable: a stored `ModelOutput` gives the same interpretation on every host (the result documents and
objects are made from it). Called by the inference task after the engine.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Manifest
from schemas.codes import Device, Finding, Segment
from schemas.errors import BundleError
from schemas.result import FindingResult, SegmentResult, TubeResult
from workers.acceptance import refusal
from workers.calibration import calibration_reference, class_scores
from workers.components import substantial_parts
from workers.output import ModelOutput
from workers.placement import Placement
from workers.spacing import Spacing
from workers.tubes import Maps, read_tubes
from workers.two_looks import read_closer

#: Of these only substantial parts are shown: they are one piece, or a few.
_ORGANS = (Segment.RIGHT_LUNG, Segment.LEFT_LUNG, Segment.HEART)


@dataclass(frozen=True, eq=False)
class Interpretation:
    """Everything about one image that result documents and objects are made from."""

    findings: list[FindingResult]
    tubes: list[TubeResult]
    #: One per region that was evaluated, with 0 pixels where nothing was outlined. An absent tube has no region.
    segments: list[SegmentResult]
    #: bool [rows, columns] of the image, for the segments that have any pixel.
    masks: dict[Segment, NDArray[np.bool_]]
    #: Why the image was refused; then nothing else is said. "" otherwise.
    refused: str = ""


def interpret(
    output: ModelOutput,
    manifest: Manifest,
    placement: Placement,
    spacing: Spacing,
    *,
    age_years: float | None = None,
) -> Interpretation:
    """Interpret the output of the bundle with this `manifest` for an image with this `placement` and `spacing`.

    `age_years` is the patient's, None when the header does not say it.
    Raises BundleError when the output does not have the manifest's classes, channels and sizes.
    """
    _check(output, manifest, placement)
    scores = dict(
        zip((c.target for c in manifest.classes), class_scores(output.logits, manifest.classes).tolist(), strict=True)
    )
    if refused := refusal(scores, manifest):
        return Interpretation([], [], [], {}, refused)
    logits = dict(zip(manifest.channels, output.dense.astype(np.float32), strict=True))
    maps = None if manifest.dense is None else Maps(logits, manifest.dense.stride, placement)
    closer = None if output.closer is None else read_closer(output.closer, manifest, placement)
    tubes = read_tubes(scores, manifest, maps, spacing, age_years, closer)
    absent = {device.segment for device in Device} - {tube.device.segment for tube in tubes if tube.present}
    segments, masks = [], {}
    # A mask of a tube that the result calls absent would contradict it.
    for segment in (each for each in logits if isinstance(each, Segment) and each not in absent):
        mask = _mask(logits[segment], segment, placement)
        pixels = int(np.count_nonzero(mask))
        segments.append(SegmentResult(segment=segment, pixels=pixels))
        if pixels:
            masks[segment] = mask
    return Interpretation(_findings(scores, manifest), tubes, segments, masks)


def _check(output: ModelOutput, manifest: Manifest, placement: Placement) -> None:
    size = manifest.preprocessing.size
    if placement.preprocessing != manifest.preprocessing:
        raise BundleError(
            f"The image was placed by the profile {placement.preprocessing.profile} at {placement.size} pixels, "
            f"bundle {manifest.name} takes {manifest.preprocessing.profile} at {size}."
        )
    classes, channels = len(manifest.classes), len(manifest.channels)
    if len(output.logits) != classes:
        raise BundleError(f"The classification head gives {len(output.logits)} logits, the manifest names {classes}.")
    if manifest.dense is None:
        return
    cells = -(-size // manifest.dense.stride)
    expected = (channels, cells, cells)
    if output.dense.shape != expected:
        raise BundleError(f"The dense head gives {list(output.dense.shape)}, the manifest says {list(expected)}.")


def _findings(scores: dict[str, float], manifest: Manifest) -> list[FindingResult]:
    return [
        FindingResult(
            finding=scored.target,
            score=scores[scored.target],
            operating_point=scored.operating_point,
            calibrated=scored.calibrated,
            calibration=calibration_reference(scored),
            present=None if scored.operating_point is None else scores[scored.target] >= scored.operating_point,
        )
        for scored in manifest.classes
        if isinstance(scored.target, Finding)
    ]


def _mask(logits: NDArray[np.float32], segment: Segment, placement: Placement) -> NDArray[np.bool_]:
    """The region, bool [rows, columns]: logits are enlarged before the threshold, which gives a smooth outline."""
    if segment in _ORGANS:
        outlined = logits > 0
        logits = np.where(outlined & ~substantial_parts(outlined), -logits, logits)
    return placement.upsample_mask(logits)
