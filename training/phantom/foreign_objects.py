"""What lies on, beside or behind a patient and is no device: what a model must not take for one.

Called by render before the projection.
"""

from dataclasses import dataclass

import numpy as np

from training.phantom import worn_objects
from training.phantom.body import Body
from training.phantom.device_parts import Part, Plate
from training.phantom.distractor_lines import draw_distractor_line
from training.phantom.truth import Family

#: On every image, those without any device too; all numbers are equally frequent.
MOST_DISTRACTOR_LINES = 4
# Share of phantoms with each; what is sewn differs between the families.
_OBJECTS = {
    Family.TRAINING: (
        (worn_objects.necklace, 0.06),
        (worn_objects.buttons, 0.08),
        (worn_objects.bra, 0.05),
        (worn_objects.surgical_clips, 0.06),
        (worn_objects.sternal_wires, 0.07),
        (worn_objects.coin, 0.03),
    ),
    Family.FROZEN: (
        (worn_objects.necklace, 0.04),
        (worn_objects.buttons, 0.06),
        (worn_objects.zip_fastener, 0.05),
        (worn_objects.surgical_clips, 0.08),
        (worn_objects.sternal_wires, 0.09),
    ),
}


@dataclass(frozen=True, eq=False)
class ForeignObjects:
    """Parts to project, and how many things and lines they are."""

    parts: tuple[Part | Plate, ...]
    #: Lines included.
    objects: int
    #: Of these: lines that could be taken for a tube, catheter or wire.
    lines: int


def draw_foreign_objects(rng: np.random.Generator, body: Body, family: Family) -> ForeignObjects:
    """0 to MOST_DISTRACTOR_LINES lines, and now and then jewellery, clothing, clips, wires or a coin.

    None of it depends on the devices of the patient, so none of it tells of them.
    """
    lines = int(rng.integers(MOST_DISTRACTOR_LINES + 1))
    parts: list[Part | Plate] = []
    for _ in range(lines):
        parts += draw_distractor_line(rng, body)
    objects = 0
    for draw, share in _OBJECTS[family]:
        if rng.random() < share:
            parts += draw(rng, body)
            objects += 1
    return ForeignObjects(tuple(parts), objects + lines, lines)
