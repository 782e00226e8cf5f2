"""The pictures that the page shows of an analysed image: what lies in their archive, and its index.json.

The archive is a ZIP whose members are stored as they are, so that the node serves them without decoding anything; it
is drawn by workers/pictures.py and kept in the object store under `Picture.sha256`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.codes import Segment
from schemas.result import Point

INDEX = "index.json"
#: Grey, longest side at most `THUMBNAIL_SIDE`: for the rows of the worklist.
THUMBNAIL = "thumbnail.jpg"
#: Grey, 8 bits, of the size `PictureIndex.pixels`: for the first paint, and for browsers without scripts.
PREVIEW = "preview.jpg"
#: Grey, uint16 little endian, 0 = black to `PIXELS_WHITE`, row by row, within gzip: to be served with the header
#: Content-Encoding: gzip and to be read as a Uint16Array, for window and level in the browser.
PIXELS = "pixels.u16.gz"

THUMBNAIL_SIDE = 384
PIXELS_SIDE = 1536
PIXELS_WHITE = 4095


def evidence_name(target: str) -> str:
    """Name of the evidence map of a class of the classification head (`ScoredClass.target`)."""
    return f"evidence/{target}.png"


def mask_name(segment: Segment) -> str:
    """Name of the picture of a region."""
    return f"mask/{segment}.png"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Size(_Document):
    rows: int
    columns: int


class EvidenceScale(_Document):
    """How attention is turned into colour: the same for every class and image (docs/decisions/013-pictures.md)."""

    #: Times the attention that each patch would get if it were spread evenly: up to here nothing is drawn ...
    lowest: float
    #: ... and from here on the last colour; the steps between are even on a logarithmic scale.
    highest: float
    #: #rrggbb, evenly spaced from `lowest` to `highest`.
    colours: list[str]
    #: Opacity 0..1 of each of the colours.
    opacities: list[float]


class EvidencePicture(_Document):
    """Where the classification head looked for one class: an RGBA picture that covers exactly the image's area."""

    #: As `ScoredClass.target` in the bundle's manifest.
    target: str
    file: str
    #: The highest attention of a patch on the image, as a multiple of attention that is spread evenly; below
    #: `EvidenceScale.lowest` the map is empty: the head looked nowhere in particular.
    peak: float
    #: Centre of that patch in image pixel coordinates (as in schemas/result.py).
    at: Point
    #: Share of the attention that lies on the image and not on the empty bars beside it.
    on_image: Annotated[float, Field(ge=0, le=1)]


class MaskPicture(_Document):
    """The outline of a region and a faint fill, of the size `PictureIndex.pixels`."""

    segment: Segment
    file: str
    #: #rrggbb as the segmentation recommends it.
    colour: str


class PictureIndex(_Document):
    """index.json of the archive."""

    format: Literal[1] = 1
    #: Size of the image itself, in which points of the result document are given.
    rows: int
    columns: int
    #: Size of `PIXELS`, `PREVIEW` and the masks.
    pixels: Size
    thumbnail: Size
    evidence: list[EvidencePicture]
    evidence_scale: EvidenceScale
    #: Of the segments that have any pixel, in the manifest's order.
    masks: list[MaskPicture]
