"""One image with what is known of it, placed as the model sees it: a row of `Examples`.

Called by the processes that render phantoms and read radiographs, and by the evaluation for the image alone.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from schemas.codes import Finding, Landmark, Segment
from schemas.preprocessing import Preprocessing
from schemas.result import Point
from training.examples.store import ABOVE_CARINA, COURSE_POINTS, CROP, DETAIL_CROP, Examples
from training.examples.targets import (
    COURSES,
    DEVICES,
    LANDMARKS,
    OPACITIES,
    PLACED_FINDINGS,
    REGIONS,
    class_row,
    phantom_classes,
    structure_of,
)
from training.phantom.truth import DeviceKind, DeviceTruth, Phantom, View
from workers.bars import area_without_bars
from workers.placement import Placement

_STORED_LEVELS = 4095
BITS: tuple[Segment | Finding, ...] = (*REGIONS, *PLACED_FINDINGS)


@dataclass(frozen=True, eq=False)
class Course:
    """Devices of one kind, in image pixels; no points where there is none."""

    #: float32 [points, 2], all devices of the kind one after the other.
    points: NDArray[np.float32]
    radius: float
    #: Of the first device whose tip is on the image.
    tip: Point | None
    #: False: nobody said where it is, or whether it is on the image.
    tip_known: bool = True


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of one image, in its own pixels. What is missing is unknown."""

    classes: dict[str, float] = field(default_factory=dict)
    #: bool [rows, columns]; None: known to be nowhere.
    masks: dict[Segment | Finding, NDArray[np.bool_] | None] = field(default_factory=dict)
    courses: dict[Segment, Course] = field(default_factory=dict)
    carina: Point | None = None


def truth_of(phantom: Phantom) -> Truth:
    """All that a phantom knows of itself and that a model can learn."""
    if phantom.view is View.LATERAL:
        return Truth(phantom_classes(phantom))
    masks: dict[Segment | Finding, NDArray[np.bool_] | None] = {
        region: phantom.masks[structure_of(region)] for region in REGIONS if structure_of(region) in phantom.masks
    }
    for finding in PLACED_FINDINGS:
        if finding in phantom.finding_masks:
            masks[finding] = phantom.finding_masks[finding]
        elif finding in phantom.answered and finding not in phantom.findings:
            masks[finding] = None
    if phantom.findings & OPACITIES:
        shown = [phantom.finding_masks[each] for each in OPACITIES & phantom.finding_masks.keys()]
        masks.pop(Finding.LUNG_OPACITY, None)
        if shown:
            masks[Finding.LUNG_OPACITY] = np.logical_or.reduce(shown)
    courses = {
        segment: _course(phantom, DeviceKind(device.value)) for segment, device in zip(COURSES, DEVICES, strict=True)
    }
    return Truth(phantom_classes(phantom), masks, courses, phantom.landmarks.get("carina"))


def place(image: NDArray[np.float32], preprocessing: Preprocessing) -> tuple[NDArray[np.uint8], Placement]:
    """An image float32 [rows, columns] in 0..1 as the model sees it, uint8 [S, S], and the mapping to it.

    Bars are cut off as they are when a file is read.
    """
    stored = np.round(image * _STORED_LEVELS).astype(np.uint16)
    placement = Placement.of(image.shape[0], image.shape[1], preprocessing, area_without_bars(stored))
    return _eight_bit(placement.apply(image)), placement


def write_example(
    examples: Examples,
    index: int,
    image: NDArray[np.float32],
    truth: Truth,
    preprocessing: Preprocessing,
    detail_size: int,
) -> None:
    """Write one image into row `index` of `examples`, in place.

    Parameters
    ----------
    image : float32 [rows, columns] in 0..1, MONOCHROME2 sense
    detail_size : side of the square that the second look's crop is cut from
    """
    examples.images[index], placement = place(image, preprocessing)
    corners = placement.to_model(placement.seen)
    examples.areas[index] = np.round(corners).ravel()
    examples.classes[index] = class_row(truth.classes)
    examples.masks[index], examples.masks_known[index] = _masks(truth, placement)
    examples.courses[index] = np.nan
    examples.radii[index] = np.nan
    examples.landmarks[index] = np.nan
    scale = placement.width / placement.area.columns
    for row, segment in enumerate(COURSES):
        course = truth.courses.get(segment)
        examples.courses_known[index, row] = course is not None
        examples.tips_known[index, row] = False
        if course is None:
            continue
        examples.tips_known[index, row] = course.tip_known
        if len(course.points):
            examples.courses[index, row] = placement.to_model(_evenly(course.points))
            examples.radii[index, row] = course.radius * scale
        if course.tip is not None:
            examples.landmarks[index, row] = placement.to_model(np.array([[course.tip.x, course.tip.y]]))[0]
    examples.carina_known[index] = truth.carina is not None
    examples.to_detail[index] = np.nan
    if truth.carina is not None:
        examples.landmarks[index, LANDMARKS.index(Landmark.CARINA)] = placement.to_model(
            np.array([[truth.carina.x, truth.carina.y]])
        )[0]
        _write_detail(examples, index, image, truth.carina, placement, detail_size)


def _write_detail(
    examples: Examples, index: int, image: NDArray[np.float32], carina: Point, placement: Placement, detail_size: int
) -> None:
    closer = Placement.of(
        placement.rows,
        placement.columns,
        placement.preprocessing.model_copy(update={"size": detail_size}),
        placement.area,
    )
    # Where the second look is directed (workers/second_look.py).
    middle = closer.to_model(np.array([[carina.x, carina.y]]))[0] - [0, (ABOVE_CARINA - 0.5) * CROP]
    left, top = np.clip(np.round(middle - DETAIL_CROP / 2), 0, detail_size - DETAIL_CROP).astype(int).tolist()
    whole = closer.apply(image)
    examples.details[index] = _eight_bit(whole[top : top + DETAIL_CROP, left : left + DETAIL_CROP])
    # Two points say what both axes do: model -> image -> placed once more -> crop.
    model = np.array([[0.0, 0.0], [placement.size, placement.size]])
    detail = closer.to_model(placement.to_image(model)) - [left, top]
    examples.to_detail[index] = [*(detail[1] - detail[0]) / placement.size, *detail[0]]


def _masks(truth: Truth, placement: Placement) -> tuple[NDArray[np.uint16], int]:
    half = placement.size // 2
    masks, known = np.zeros((half, half), np.uint16), 0
    for bit, name in enumerate(BITS):
        if name not in truth.masks:
            continue
        known |= 1 << bit
        mask = truth.masks[name]
        if mask is not None:
            shares = placement.place(mask.astype(np.float32)).reshape(half, 2, half, 2).mean(axis=(1, 3))
            masks |= (shares >= 0.5).astype(np.uint16) << bit
    return masks, known


def _course(phantom: Phantom, kind: DeviceKind) -> Course:
    drawn: list[DeviceTruth] = [each for each in phantom.devices if each.kind is kind and len(each.course)]
    if not drawn:
        return Course(np.zeros((0, 2), np.float32), 0.0, None)
    pixels = drawn[0].radius_mm / phantom.imager_mm_per_pixel * phantom.magnification
    tip = next((each.tip for each in drawn if each.tip is not None), None)
    return Course(np.concatenate([_dense(each.course) for each in drawn]), pixels, tip)


def _dense(line: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same line with so many points that none is farther than half a pixel from the next."""
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    wanted = np.linspace(0.0, lengths[-1], max(2, int(2 * lengths[-1])))
    return np.stack([np.interp(wanted, lengths, line[:, axis]) for axis in range(2)], axis=1).astype(np.float32)


def _evenly(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """COURSE_POINTS of them, the first and the last among them."""
    chosen = np.round(np.linspace(0, len(points) - 1, COURSE_POINTS)).astype(int)
    evenly: NDArray[np.float64] = points[chosen].astype(np.float64)
    return evenly


def _eight_bit(greys: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.round(greys.clip(0, 1) * 255).astype(np.uint8)
