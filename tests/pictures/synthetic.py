"""Images as files and model outputs with things at known places, for the shipped bundle's manifest."""

import gzip
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.bundle import Acceptance, bundle_folder, read_manifest
from schemas.codes import Segment
from schemas.pictures import INDEX, PIXELS, PictureIndex
from tests.support.phantoms import phantom
from training.phantom_dicom import Order, phantom_dataset
from workers.output import ModelOutput
from workers.pictures import PicturesRequest, draw_pictures
from workers.placement import Placement

MANIFEST = read_manifest(bundle_folder(None))
assert MANIFEST.dense is not None
PREPROCESSING = MANIFEST.preprocessing
SIZE = PREPROCESSING.size
TARGETS = [scored.target for scored in MANIFEST.classes]
#: Patches along a side.
GRID = 24
_CELLS = SIZE // MANIFEST.dense.stride

Box = tuple[float, float, float, float]


def hot_patch(row: int, column: int, height: float = 100.0) -> NDArray[np.float16]:
    """Attention [24, 24] that is even but for one patch, which gets `height` times the even share."""
    attention = np.ones((GRID, GRID))
    attention[row, column] = height
    return (attention / GRID**2).astype(np.float16)


def even() -> NDArray[np.float16]:
    return hot_patch(0, 0, 1.0)


def model_output(
    placement: Placement,
    attention: Mapping[str, NDArray[np.float16]] | None = None,
    regions: Mapping[Segment, Box] | None = None,
) -> ModelOutput:
    """Attention by target (even for all others), and boxes (left, top, right, bottom in image pixels) as regions."""
    centres = (np.arange(_CELLS) + 0.5) * (SIZE / _CELLS)
    x, y = np.meshgrid(centres, centres)
    dense = np.full((len(MANIFEST.channels), _CELLS, _CELLS), -8.0)
    for segment, box in (regions or {}).items():
        (left, top), (right, bottom) = placement.to_model(np.array([box[:2], box[2:]]))
        inside = np.minimum.reduce([x - left, right - x, y - top, bottom - y])
        dense[MANIFEST.channels.index(segment)] = np.clip(inside, -8, 8)
    said = {"endotracheal_tube.presence", Acceptance.FRONTAL_CHEST.value}
    logits = [4.0 if target in said else -4.0 for target in TARGETS]
    return ModelOutput(
        logits=np.array(logits, np.float32),
        attention=np.stack([(attention or {}).get(target, even()) for target in TARGETS]),
        dense=dense.astype(np.float16),
    )


def write_image(
    path: Path,
    image: NDArray[np.float32],
    photometric_interpretation: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
) -> Path:
    """`image` float32 [rows, columns], 0..1, as a DX file."""
    source = replace(phantom(1, rows=300, columns=300), image=image)
    dataset = phantom_dataset(source, Order(), photometric_interpretation)
    dataset.save_as(path, enforce_file_format=True)
    return path


class Drawn:
    """An archive of pictures as a browser sees it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        with ZipFile(BytesIO(content)) as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}
            self.stored = all(member.compress_type == 0 for member in archive.infolist())
        self.index = PictureIndex.model_validate_json(self.members[INDEX])

    def image(self, name: str) -> Image.Image:
        return Image.open(BytesIO(self.members[name]))

    def rgba(self, name: str) -> NDArray[np.uint8]:
        """uint8 [rows, columns, 4]."""
        return np.asarray(self.image(name).convert("RGBA"))

    def pixels(self) -> NDArray[Any]:
        """uint16 [rows, columns]."""
        size = self.index.pixels
        return np.frombuffer(gzip.decompress(self.members[PIXELS]), "<u2").reshape(size.rows, size.columns)


def drawn(path: Path, output: ModelOutput) -> Drawn:
    return Drawn(draw_pictures(PicturesRequest(path, output.to_bytes(), MANIFEST)))
