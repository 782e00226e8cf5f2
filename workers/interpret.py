"""From a model's raw output to what is said about the image: findings, tubes and regions in image coordinates.

Pure and repeatable: a stored `ModelOutput` gives the same interpretation on every host (the result documents and
objects are made from it). Called by the inference task after the engine.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Manifest, ScoredClass
from schemas.codes import Device, DistanceBasis, Finding, Landmark, Segment
from schemas.errors import BundleError
from schemas.result import FindingResult, Point, SegmentResult, TipToCarina, TubeResult
from workers.components import substantial_parts
from workers.landmark import locate, sigmoid
from workers.output import ModelOutput
from workers.placement import Placement
from workers.spacing import Spacing
from workers.tube_course import trace_tube
from workers.tube_position import tube_position

#: The logit of "surely not": what cells beside the image are set to before anything is located.
_NOWHERE = -20.0
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


def interpret(output: ModelOutput, manifest: Manifest, placement: Placement, spacing: Spacing) -> Interpretation:
    """Interpret the output of the bundle with this `manifest` for an image with this `placement` and `spacing`.

    Raises BundleError when the output does not have the manifest's classes, channels and sizes.
    """
    _check(output, manifest, placement)
    scores = dict(zip((c.target for c in manifest.classes), sigmoid(output.logits).tolist(), strict=True))
    channels = dict(zip(manifest.channels, output.dense.astype(np.float32), strict=True))

    tubes = _tubes(scores, channels, manifest, placement, spacing)
    segments, masks = [], {}
    for segment in (channel for channel in channels if isinstance(channel, Segment)):
        # A mask of a tube that the result calls absent would contradict it.
        if segment is Segment.ENDOTRACHEAL_TUBE and not any(tube.present for tube in tubes):
            continue
        mask = _mask(channels[segment], segment, placement)
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
            present=None if scored.operating_point is None else scores[scored.target] >= scored.operating_point,
        )
        for scored in manifest.classes
        if isinstance(scored.target, Finding)
    ]


def _tubes(
    scores: dict[str, float],
    channels: dict[Segment | Landmark, NDArray[np.float32]],
    manifest: Manifest,
    placement: Placement,
    spacing: Spacing,
) -> list[TubeResult]:
    classes: dict[str, ScoredClass] = {scored.target: scored for scored in manifest.classes}
    presence = classes.get("endotracheal_tube.presence")
    # Without an operating point nobody can say whether there is one: "absent" would reassure without ground.
    if presence is None or presence.operating_point is None or manifest.dense is None:
        return []
    stride = manifest.dense.stride
    nothing = np.full_like(next(iter(channels.values())), _NOWHERE)
    inside = placement.cells_on_image(nothing.shape)
    course, tip, carina = (
        np.where(inside, channels.get(channel, nothing), np.float32(_NOWHERE))
        for channel in (Segment.ENDOTRACHEAL_TUBE, Landmark.ENDOTRACHEAL_TUBE_TIP, Landmark.CARINA)
    )
    score = scores[presence.target]
    carina_peak = locate(carina, stride)
    carina_point = None if carina_peak is None else _points(placement, [[carina_peak.x, carina_peak.y]])[0]
    common = {
        "device": Device.ENDOTRACHEAL_TUBE,
        "score": score,
        "operating_point": presence.operating_point,
        "calibrated": presence.calibrated,
        "carina": carina_point,
    }
    if score < presence.operating_point:
        return [TubeResult.model_validate({**common, "present": False})]

    traced = trace_tube(course, tip, stride)
    tip_point = None if traced.tip is None else _points(placement, [[traced.tip.x, traced.tip.y]])[0]
    distance = _tip_to_carina(tip_point, carina_point, spacing)
    malposition = classes.get("endotracheal_tube.malposition")
    malposition_score = None if malposition is None else scores[malposition.target]
    judgement = tube_position(distance, malposition_score, None if malposition is None else malposition.operating_point)
    return [
        TubeResult.model_validate(
            {
                **common,
                "present": True,
                "position": judgement.position,
                "position_reason": judgement.reason,
                "malposition_score": malposition_score,
                "tip": tip_point,
                "course": _points(placement, traced.points),
                "tip_to_carina": distance,
            }
        )
    ]


def _points(placement: Placement, points: object) -> list[Point]:
    """Model points [N, 2] as image points; a centroid of a cell at the border stays on what the model sees of it."""
    seen = placement.seen
    image = placement.to_image(np.asarray(points, np.float64).reshape(-1, 2)).clip(seen[0], seen[1])
    return [Point(x=x, y=y) for x, y in image.tolist()]


def _tip_to_carina(tip: Point | None, carina: Point | None, spacing: Spacing) -> TipToCarina | None:
    if tip is None or carina is None:
        return None
    pixels = carina.y - tip.y
    millimetres = None if spacing.basis is DistanceBasis.NONE else pixels * spacing.row_mm
    return TipToCarina(pixels=pixels, millimetres=millimetres, basis=spacing.basis)


def _mask(logits: NDArray[np.float32], segment: Segment, placement: Placement) -> NDArray[np.bool_]:
    """The region, bool [rows, columns]: logits are enlarged before the threshold, which gives a smooth outline."""
    if segment in _ORGANS:
        outlined = logits > 0
        logits = np.where(outlined & ~substantial_parts(outlined), -logits, logits)
    return placement.upsample_mask(logits)
