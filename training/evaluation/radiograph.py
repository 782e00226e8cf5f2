"""A radiograph of a patient as the evaluation sees it: whole, and its lungs alone. Called by radiographs.py."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.bundle import Manifest
from schemas.codes import Segment
from training.evaluation.seeing import Seen, look
from training.evaluation.typical import OUTLINE_SIDE, shrunk
from training.examples.placing import place
from training.sources.source import Sample
from workers.bundle import LoadedBundle
from workers.output import ModelOutput
from workers.placement import Placement

_LUNGS = (Segment.RIGHT_LUNG, Segment.LEFT_LUNG)
_THUMBNAIL = 8
#: Of a lung box, so much more on every side.
_MARGIN = 0.05
#: Of its sides, up to so much is cut off.
_MOST_CUT = 0.1
_CROP_SIDE = 512
#: Of each film: what a single one happens to cut off moves an AUROC of fifty films by 0.1.
_CROPS = 4

Grey = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Picture:
    """What a question is asked of."""

    #: uint8 [S, S], as the model sees it.
    placed: NDArray[np.uint8]
    #: float64 [64]
    thumbnail: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Radiograph:
    """A sample that was read; the image itself would not fit into memory with all others."""

    sample: Sample
    rows: int
    columns: int
    whole: Picture
    #: Square crops of the lung box; none where they were not asked for, or no lung was found.
    lungs: Sequence[Picture]
    #: bool [OUTLINE_SIDE, OUTLINE_SIDE], the lungs as somebody drew them; None where nobody did.
    outline: NDArray[np.bool_] | None


def read_radiograph(sample: Sample, image: Grey, bundle: LoadedBundle, *, crop_lungs: bool) -> Radiograph:
    """The `sample` whose image, float32 [rows, columns], this is."""
    drawn = sample.masks["lungs"].read(*image.shape) if "lungs" in sample.masks else None
    lungs: list[Picture] = []
    if crop_lungs:
        outlined = _found(bundle, image) if drawn is None else drawn
        box = None if outlined is None else _box(outlined)
        if box is not None:
            # The same crops of a film, whatever else is evaluated.
            rng = np.random.default_rng(zlib.crc32(f"{sample.source}/{sample.key}".encode()))
            lungs = [_picture(_square(image, box, rng), bundle) for _ in range(_CROPS)]
    rows, columns = image.shape
    outline = None if drawn is None else shrunk(drawn, OUTLINE_SIDE) > 0.5
    return Radiograph(sample, rows, columns, _picture(image, bundle), lungs, outline)


def outlined_lungs(output: ModelOutput, placement: Placement, manifest: Manifest) -> NDArray[np.bool_] | None:
    """Both lungs as a bundle outlines them, bool of the image's shape, whatever it thinks of the image.

    None when it outlines no lungs.
    """
    if not set(_LUNGS) <= set(manifest.channels):
        return None
    masks = [placement.upsample_mask(output.dense[manifest.channels.index(lung)].astype(np.float32)) for lung in _LUNGS]
    both: NDArray[np.bool_] = masks[0] | masks[1]
    return both


def _found(bundle: LoadedBundle, image: Grey) -> NDArray[np.bool_] | None:
    pixels, placement = place(image, bundle.manifest.preprocessing)
    output = look(bundle.network, bundle.manifest, Seen(pixels, placement, None))
    return outlined_lungs(output, placement, bundle.manifest)


def _picture(image: Grey, bundle: LoadedBundle) -> Picture:
    small = Image.fromarray(image).resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    placed, _ = place(image, bundle.manifest.preprocessing)
    return Picture(placed, np.asarray(small, np.float64).ravel())


@dataclass(frozen=True)
class _Box:
    left: int
    top: int
    right: int
    bottom: int


def _box(lungs: NDArray[np.bool_]) -> _Box | None:
    rows, columns = np.nonzero(lungs)
    if not len(rows):
        return None
    margin = round(_MARGIN * max(lungs.shape))
    return _Box(
        max(0, int(columns.min()) - margin),
        max(0, int(rows.min()) - margin),
        min(lungs.shape[1], int(columns.max()) + margin),
        min(lungs.shape[0], int(rows.max()) + margin),
    )


def _square(image: Grey, box: _Box, rng: np.random.Generator) -> Grey:
    """The box as a square, of which some is cut off at random sides: its own shape is gone."""
    width, height = box.right - box.left, box.bottom - box.top
    cut = rng.uniform(0, _MOST_CUT, 4) * [width, height, width, height]
    resized = Image.fromarray(image).resize(
        (_CROP_SIDE, _CROP_SIDE),
        Image.Resampling.BILINEAR,
        (box.left + cut[0], box.top + cut[1], box.right - cut[2], box.bottom - cut[3]),
    )
    return np.asarray(resized)
