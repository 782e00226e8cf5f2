"""Images that are no frontal chest radiograph as a model expects it: what it has to refuse, with the reason.

Called by training and tests of the refusal. Chests that lie wrongly are made of the phantom itself.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Acceptance
from training.phantom import other_parts
from training.phantom.beam import draw_exposure
from training.phantom.burned_in_text import draw_burned_in_text
from training.phantom.families import DETECTORS, VENDORS
from training.phantom.geometry import Geometry
from training.phantom.processing import draw_processing
from training.phantom.render import render_phantom
from training.phantom.textures import texture
from training.phantom.truth import Family, View


class Subject(StrEnum):
    """What an image shows instead."""

    LATERAL = "lateral"
    HAND = "hand"
    KNEE = "knee"
    SKULL = "skull"
    ABDOMEN = "abdomen"
    UPSIDE_DOWN = "upside_down"
    ROTATED = "rotated"
    INVERTED = "inverted"
    BLANK = "blank"
    NOISE = "noise"

    @property
    def acceptance(self) -> Acceptance:
        """The class that gives the reason for refusing it."""
        return _ACCEPTANCE[self]


_ACCEPTANCE = {
    Subject.LATERAL: Acceptance.LATERAL,
    Subject.HAND: Acceptance.NOT_CHEST,
    Subject.KNEE: Acceptance.NOT_CHEST,
    Subject.SKULL: Acceptance.NOT_CHEST,
    Subject.ABDOMEN: Acceptance.NOT_CHEST,
    Subject.UPSIDE_DOWN: Acceptance.TURNED,
    Subject.ROTATED: Acceptance.TURNED,
    Subject.INVERTED: Acceptance.INVERTED,
    Subject.BLANK: Acceptance.EMPTY,
    Subject.NOISE: Acceptance.EMPTY,
}
_PARTS = {
    Subject.HAND: other_parts.hand,
    Subject.KNEE: other_parts.knee,
    Subject.SKULL: other_parts.skull,
    Subject.ABDOMEN: other_parts.abdomen,
}


@dataclass(frozen=True, eq=False)
class NotChest:
    """One such image."""

    seed: int
    #: float32 [rows, columns] in 0..1, MONOCHROME2 sense but for INVERTED.
    image: NDArray[np.float32]
    subject: Subject

    @property
    def reason(self) -> Acceptance:
        """Why it is to be refused."""
        return self.subject.acceptance


def render_not_chest(
    seed: int, rows: int, columns: int, *, subject: Subject | None = None, family: Family = Family.TRAINING
) -> NotChest:
    """One image that is no upright frontal chest; every subject as often as any other unless one is asked for.

    The same arguments give the same image.
    """
    rng = np.random.default_rng([seed, 0x0707])
    subjects = list(Subject)
    subject = subject or subjects[rng.integers(len(subjects))]
    match subject:
        case Subject.HAND | Subject.KNEE | Subject.SKULL | Subject.ABDOMEN:
            image = _other_part(rng, subject, rows, columns, family)
        case Subject.LATERAL:
            image = _chest(seed, rows, columns, family, View.LATERAL)
        case Subject.UPSIDE_DOWN:
            image = _chest(seed, rows, columns, family, None)[::-1, ::-1]
        case Subject.ROTATED:
            image = np.rot90(_chest(seed, columns, rows, family, None), 1 if rng.random() < 0.5 else 3)
        case Subject.INVERTED:
            image = 1 - _chest(seed, rows, columns, family, None)
        case Subject.BLANK:
            image = _blank(rng, rows, columns)
        case Subject.NOISE:
            image = _noise(rng, rows, columns)
    return NotChest(seed, np.ascontiguousarray(image, dtype=np.float32), subject)


def _chest(seed: int, rows: int, columns: int, family: Family, view: View | None) -> NDArray[np.float32]:
    if view is None:
        view = View.AP if seed % 2 else View.PA
    return render_phantom(seed, rows, columns, family=family, view=view, masks=False).image


def _other_part(
    rng: np.random.Generator, subject: Subject, rows: int, columns: int, family: Family
) -> NDArray[np.float32]:
    part = _PARTS[subject](rng)
    geometry = Geometry(
        view=View.AP,
        rows=rows,
        columns=columns,
        imager_mm_per_pixel=1.1 * part.field_mm / min(rows, columns),
        source_to_detector_mm=1100,
        carina_to_detector_mm=80,
        turn_degrees=rng.normal(0, 12),
        middle_u=rng.normal(0, 0.05) * part.field_mm,
        middle_v=rng.normal(0, 0.08) * part.field_mm,
    )
    water, bone = part.water(geometry), part.bones(geometry)
    mm_per_pixel = geometry.imager_mm_per_pixel
    grain = 1 + 0.015 * texture(rng, rows, columns, mm_per_pixel, power=1.5)
    exposure = draw_exposure(rng, DETECTORS[family])
    transmission = exposure.transmission(water * grain, bone * grain, None)
    noise = rng.standard_normal((rows, columns), dtype=np.float32)
    processing = draw_processing(rng, VENDORS[family])
    enhanced = processing.enhance(exposure.detect(transmission, noise, mm_per_pixel), mm_per_pixel)
    # Soft tissue lies where lungs would, bone where the spine would; the air beside it is black.
    flesh = (water > 0.3 * water.max()) & (bone < 1)
    image = processing.window(enhanced, flesh, bone > 3).show(enhanced)
    # Chests' contrast is too little for a thin part; its air is shown black or nearly so.
    black, white = np.percentile(image, [2, 99.8])
    black *= rng.uniform(0.7, 1)
    image = np.asarray(np.clip((image - black) / max(white - black, 0.05), 0, 1), dtype=np.float32)
    return draw_burned_in_text(rng, rows, columns).onto(image)


def _blank(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    """Nothing, or nothing but a collimated field, a faint shade and grain."""
    level = rng.uniform(0, 1)
    image = np.full((rows, columns), level, dtype=np.float32)
    if rng.random() < 0.6:
        image += rng.uniform(-0.2, 0.2) * np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
        image += rng.uniform(0, 0.02) * rng.standard_normal((rows, columns), dtype=np.float32)
    if rng.random() < 0.4:
        top, left = int(rng.uniform(0.02, 0.3) * rows), int(rng.uniform(0.02, 0.3) * columns)
        framed = np.zeros_like(image)
        framed[top : rows - top, left : columns - left] = image[top : rows - top, left : columns - left]
        image = framed
    return np.asarray(np.clip(image, 0, 1), dtype=np.float32)


def _noise(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    """White, coarse or striped noise at any brightness."""
    kind = rng.integers(3)
    if kind == 0:
        field = rng.standard_normal((rows, columns), dtype=np.float32)
    elif kind == 1:
        field = texture(rng, rows, columns, rng.uniform(0.3, 1.5), power=float(rng.choice([0.7, 1.3, 1.6])))
    else:
        field = np.repeat(rng.standard_normal((rows, 1), dtype=np.float32), columns, axis=1)
        field += 0.3 * rng.standard_normal((rows, columns), dtype=np.float32)
    noisy = rng.uniform(0.3, 0.7) + rng.uniform(0.08, 0.35) * field
    return np.asarray(np.clip(noisy, 0, 1), dtype=np.float32)
