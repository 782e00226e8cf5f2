"""Evidence maps: where the classification head looked for each class, as a picture to lay over the radiograph.

The colour says how many times more attention a place got than it would have got if the head had looked everywhere
alike. That scale is the same for every class and image: docs/decisions/013-pictures.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.pictures import EvidenceScale
from schemas.preprocessing import Resampling
from schemas.result import Point
from workers.placement import Placement

#: Longest side of a map: it is smooth, and a patch of the coarsest grid still covers several pixels.
SIDE = 256

#: Dark red over orange to yellow: lightness rises all the way and the hue never meets grey, in normal vision as with
#: protanopia, deuteranopia and tritanopia (a test simulates them).
SCALE = EvidenceScale(
    lowest=2.0,
    highest=64.0,
    colours=["#8f1d00", "#d84300", "#ff8a00", "#ffcc33"],
    opacities=[0.0, 0.35, 0.45, 0.55],
)


@dataclass(frozen=True)
class Peak:
    """The patch on the image that got most attention."""

    #: Multiple of attention that is spread evenly.
    height: float
    #: Its centre, in image pixel coordinates.
    at: Point


def strength(attention: NDArray[np.floating], placement: Placement, width: int, height: int) -> NDArray[np.uint8]:
    """Attention [h, w] over the model's input as the places on `SCALE`, 0..255, uint8 [height, width] of the image.

    Bicubic between the centres of the patches; the whole map is exactly the image's area, 0 where a crop leaves the
    model nothing to see.
    """
    relative = attention.astype(np.float32) * np.float32(attention.size)
    steps = np.log(np.maximum(relative / SCALE.lowest, 1.0)) / np.log(SCALE.highest / SCALE.lowest)
    # Placed on the scale before it is enlarged: of a single hot patch the logarithm would else make a square.
    placed = np.minimum(steps, 1.0).astype(np.float32)
    enlarged = np.nan_to_num(placement.upsample(placed, (width, height), Resampling.BICUBIC), nan=0.0)
    places: NDArray[np.uint8] = np.rint(np.clip(enlarged, 0.0, 1.0) * 255).astype(np.uint8)
    return places


def palette() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Colour uint8 [256, 3] and opacity uint8 [256] of each place on `SCALE`."""
    places = np.linspace(0.0, 1.0, 256)
    stops = np.linspace(0.0, 1.0, len(SCALE.colours))
    channels = np.array([list(bytes.fromhex(colour[1:])) for colour in SCALE.colours], np.float64).T
    colours = np.stack([np.interp(places, stops, channel) for channel in channels], axis=1)
    opacity = np.interp(places, stops, SCALE.opacities) * 255
    return colours.round().astype(np.uint8), opacity.round().astype(np.uint8)


def peak(attention: NDArray[np.floating], placement: Placement) -> Peak:
    """Where on the image attention [h, w] is highest."""
    on_image = np.where(placement.share_on_image(attention.shape) > 0, attention.astype(np.float64), -1.0)
    row, column = np.unravel_index(int(on_image.argmax()), attention.shape)
    cell = placement.size / np.array([attention.shape[1], attention.shape[0]])
    centre = placement.to_image((np.array([[column, row]]) + 0.5) * cell)[0]
    # Of a patch that lies across the image's edge the centre may be beyond it.
    x, y = centre.clip(placement.seen[0], placement.seen[1]).tolist()
    return Peak(float(on_image[row, column]) * attention.size, Point(x=x, y=y))


def share_on_image(attention: NDArray[np.floating], placement: Placement) -> float:
    """Share 0..1 of attention [h, w] that lies on the image and not beside it."""
    exact = attention.astype(np.float64)
    whole = float(exact.sum())
    return float((exact * placement.share_on_image(attention.shape)).sum()) / whole if whole else 0.0
