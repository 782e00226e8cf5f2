"""Radiographs of a data source as examples. Called by the stage that reads real data, and by the evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from schemas.bundle import Acceptance
from schemas.codes import Finding, Segment
from training.examples.filling import Pictured, Placing, fill
from training.examples.placing import BITS, Course, Truth
from training.examples.store import Examples
from training.examples.targets import COURSES, DEVICES, acceptance_classes
from training.sources.masks import lung_sides
from training.sources.source import Sample


@dataclass(frozen=True, eq=False)
class SampleMaker:
    """The sample of an index."""

    samples: Sequence[Sample]

    def __call__(self, index: int) -> Pictured:
        sample = self.samples[index]
        image = sample.read()
        return Pictured(image, truth_of_sample(sample, *image.shape))


def read_examples(
    samples: Sequence[Sample], folder: Path, placing: Placing, progress: Progress, title: str
) -> Examples:
    """The samples as examples in `folder`; what is there already is kept."""
    return fill(folder, len(samples), SampleMaker(samples), placing, progress, title)


def truth_of_sample(sample: Sample, rows: int, columns: int) -> Truth:
    """What is known of a radiograph of `rows` x `columns` pixels."""
    if sample.view == "LL":
        return Truth(acceptance_classes(Acceptance.LATERAL))
    classes = {target: value for target, value in sample.labels.items() if not target.startswith("view.")}
    # Who collected chest radiographs says that these are; a view that nobody stated may still be a lateral one.
    if sample.view is not None:
        classes |= acceptance_classes(Acceptance.FRONTAL_CHEST) | {"view.ap": float(sample.view == "AP")}
    masks: dict[Segment | Finding, NDArray[np.bool_] | None] = {
        name: sample.masks[name.value].read(rows, columns) for name in BITS if name.value in sample.masks
    }
    if "lungs" in sample.masks and Segment.RIGHT_LUNG not in masks:
        sides = lung_sides(sample.masks["lungs"].read(rows, columns))
        if sides is not None:
            masks |= {Segment.RIGHT_LUNG: sides.right, Segment.LEFT_LUNG: sides.left}
    courses = {segment: _course(sample, device.value) for segment, device in zip(COURSES, DEVICES, strict=True)}
    known = {segment: course for segment, course in courses.items() if course is not None}
    return Truth(classes, masks, known, sample.landmarks.get("carina"))


def _course(sample: Sample, device: str) -> Course | None:
    """The courses of a device that somebody drew, or that there is none; None when neither is known.

    Which end of a drawn course is the tip, sources do not say, so the tip stays unknown to the model.
    """
    drawn = [each.points for each in sample.courses if each.device == device and len(each.points)]
    if drawn:
        return Course(np.concatenate(drawn), 0.0, None, tip_known=False)
    if sample.labels.get(f"{device}.presence") == 0.0:
        return Course(np.zeros((0, 2), np.float32), 0.0, None)
    return None
