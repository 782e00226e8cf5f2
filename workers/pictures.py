"""Draws the pictures that the page shows of an analysed image: grey image, evidence maps, regions, in one archive.

A pure function of the stored file and the stored model output: equal input gives equal bytes, and the regions are
those of the result's segmentation. Runs in the process pool, after the result is committed (workers/tasks.py). What is
in the archive: schemas/pictures.py. Why it is as it is: docs/decisions/013-pictures.md.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from schemas.bundle import Manifest
from schemas.codes import Segment
from schemas.pictures import (
    INDEX,
    PIXELS,
    PIXELS_SIDE,
    PIXELS_WHITE,
    PREVIEW,
    THUMBNAIL,
    THUMBNAIL_SIDE,
    EvidencePicture,
    MaskPicture,
    PictureIndex,
    Size,
    evidence_name,
    mask_name,
)
from workers import evidence
from workers.interpret import interpret
from workers.output import ModelOutput
from workers.pixels import read_film
from workers.placement import Placement
from workers.results.overlay import colour_of
from workers.results.source import Mask
from workers.spacing import NO_SPACING

_JPEG_QUALITY = 85
#: Greys in `PIXELS`. At this size a radiograph's own noise is 9 to 22 of 4095 (two measured; the phantom 8): steps of 2
#: cannot be seen in it at any window, and save a tenth of the archive.
_GREYS = 2048
#: A region's border, pixels of the picture, half of it on either side.
_OUTLINE_WIDTH = 2.0
_FILL_OPACITY = 0.08
_BLUR_RADIUS = 2


@dataclass(frozen=True)
class PicturesRequest:
    """One image that the model has seen."""

    path: Path
    #: Model output as `ModelOutput.to_bytes` writes it.
    output: bytes
    manifest: Manifest


def draw_pictures(request: PicturesRequest) -> bytes:
    """The archive of pictures of one image.

    Raises what `read_film` raises, ObjectMissingError or BundleError when the output cannot be used.
    """
    output = ModelOutput.from_bytes(request.output)
    film = read_film(request.path)
    rows, columns = film.rows, film.columns
    placement = Placement.of(rows, columns, request.manifest.preprocessing, film.area)
    # Regions do not depend on the spacing, nor does whether the image is refused.
    found = interpret(output, request.manifest, placement, NO_SPACING)
    masks = found.masks

    grey = _reduced(Image.fromarray(film.pixels), PIXELS_SIDE)
    preview = Image.fromarray(_levels(grey, 256).astype(np.uint8))
    thumbnail = _reduced(preview, THUMBNAIL_SIDE)
    index = PictureIndex(
        rows=rows,
        columns=columns,
        pixels=_size(preview),
        thumbnail=_size(thumbnail),
        # Of a refused image nothing is said, so there is nothing to explain.
        evidence=[] if found.refused else _evidence_pictures(output, request.manifest, placement),
        evidence_scale=evidence.SCALE,
        masks=[
            MaskPicture(
                segment=segment, file=mask_name(segment), colour="#{:02x}{:02x}{:02x}".format(*colour_of(segment))
            )
            for segment in masks
        ],
    )
    members = {
        INDEX: index.model_dump_json(indent=1).encode(),
        THUMBNAIL: _jpeg(thumbnail),
        PREVIEW: _jpeg(preview),
        PIXELS: _gzip(_pixels(grey)),
    }
    width, height = _bounded(columns, rows, evidence.SIDE, enlarge=True)
    for each, attention in zip(index.evidence, output.attention, strict=False):
        members[each.file] = _evidence_png(evidence.strength(attention, placement, width, height))
    for segment, mask in masks.items():
        members[mask_name(segment)] = _mask_png(mask, segment, preview.size)
    return _archive(members)


def _evidence_pictures(output: ModelOutput, manifest: Manifest, placement: Placement) -> list[EvidencePicture]:
    pictures = []
    for scored, attention in zip(manifest.classes, output.attention, strict=False):
        peak = evidence.peak(attention, placement)
        pictures.append(
            EvidencePicture(
                target=scored.target,
                file=evidence_name(scored.target),
                peak=peak.height,
                at=peak.at,
                on_image=evidence.share_on_image(attention, placement),
            )
        )
    return pictures


def _bounded(width: int, height: int, side: int, *, enlarge: bool = False) -> tuple[int, int]:
    """Width and height with the longer one at most `side` (or just that), at least 1 pixel each."""
    factor = side / max(width, height)
    if factor >= 1 and not enlarge:
        return width, height
    return max(1, round(width * factor)), max(1, round(height * factor))


def _reduced(image: Image.Image, side: int) -> Image.Image:
    # Hamming's filter keeps more detail than a triangle and, unlike Lanczos', draws no dark seams along metal.
    size = _bounded(*image.size, side)
    return image if size == image.size else image.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)


def _size(image: Image.Image) -> Size:
    return Size(rows=image.height, columns=image.width)


def _levels(grey: Image.Image, count: int) -> NDArray[np.uint16]:
    """Grey 0..1 in `count` levels, 0..count - 1, uint16 [rows, columns]."""
    levels: NDArray[np.uint16] = np.rint(np.clip(np.asarray(grey), 0.0, 1.0) * (count - 1)).astype(np.uint16)
    return levels


def _pixels(grey: Image.Image) -> bytes:
    values = np.rint(np.arange(_GREYS) * (PIXELS_WHITE / (_GREYS - 1))).astype("<u2")
    content: bytes = values[_levels(grey, _GREYS)].tobytes()
    return content


def _gzip(content: bytes) -> bytes:
    # Higher levels take twice the time and gain nothing on noise. The header has neither name nor time.
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31, 9)
    return compressor.compress(content) + compressor.flush()


def _jpeg(image: Image.Image) -> bytes:
    with BytesIO() as stream:
        image.save(stream, "JPEG", quality=_JPEG_QUALITY)
        return stream.getvalue()


def _evidence_png(strength: NDArray[np.uint8]) -> bytes:
    colours, opacities = evidence.palette()
    return _png(Image.fromarray(strength), colours.tobytes(), opacities.tobytes())


def _mask_png(mask: Mask, segment: Segment, size: tuple[int, int]) -> bytes:
    """The border of `mask` [rows, columns] and a faint fill in the segment's colour, at `size` (width, height)."""
    region = Image.fromarray(mask.astype(np.uint8) * 255)
    if region.size != size:
        region = region.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)
    # Blurred by a box, the border is a ramp whose height is a distance (as in workers/results/brush.py).
    border = region.filter(ImageFilter.BoxBlur(_BLUR_RADIUS)).point(_border_opacities())
    fill = region.point([round(value * _FILL_OPACITY) for value in range(256)])
    # A palette of one colour, whose entries are its opacities.
    return _png(ImageChops.lighter(border, fill), bytes(colour_of(segment)) * 256, bytes(range(256)))


def _border_opacities() -> list[int]:
    distances = np.abs(np.arange(256) / 255 - 0.5) * (2 * _BLUR_RADIUS + 1)
    opacities: list[int] = (np.clip((_OUTLINE_WIDTH + 1) / 2 - distances, 0.0, 1.0) * 255).round().astype(int).tolist()
    return opacities


def _png(indices: Image.Image, palette: bytes, opacities: bytes) -> bytes:
    """A PNG of 8-bit `indices` (mode L) into a palette [256, 3] with an opacity for each entry: RGBA in a quarter."""
    image = Image.frombytes("P", indices.size, indices.tobytes())
    image.putpalette(palette)
    with BytesIO() as stream:
        image.save(stream, "PNG", transparency=opacities)
        return stream.getvalue()


def _archive(members: Mapping[str, bytes]) -> bytes:
    with BytesIO() as stream:
        with ZipFile(stream, "w", ZIP_STORED) as archive:
            for name, content in members.items():
                # Made at the beginning of ZIP's time, on Unix, whenever and wherever it is made.
                member = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                member.create_system, member.external_attr = 3, 0o644 << 16
                archive.writestr(member, content)
        return stream.getvalue()
