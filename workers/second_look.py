"""The second look: what it is directed at, what is cut out for it, and how its points come back to the image.

Serving, tuning and evaluation cut by this one rule. NumPy only. Points are x = column, y = row, float64 [N, 2]; in the
detail image (the square that the whole image is placed in once more) (0, 0) is the top left corner, as in the model's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Manifest, SecondLookHead
from schemas.codes import Landmark
from schemas.preprocessing import Fit, Preprocessing
from workers.landmark import NOWHERE, locate
from workers.output import Closer
from workers.placement import Placement, Points


@dataclass(frozen=True, eq=False)
class Detail:
    """An image once more, in finer pixels."""

    #: uint8 [D, D], 0..255 for 0..1, not normalised.
    pixels: NDArray[np.uint8]
    #: How the image lies in it.
    placement: Placement

    @classmethod
    def of(cls, image: NDArray[np.float32], placement: Placement) -> "Detail":
        """Place an image float32 [rows, columns] in 0..1."""
        return cls(np.rint(placement.apply(image) * 255).astype(np.uint8), placement)


@dataclass(frozen=True)
class Crop:
    """A square of the detail image."""

    #: Its top left pixel.
    left: int
    top: int
    #: Its side, pixels.
    side: int

    @classmethod
    def above(cls, carina: Points, head: SecondLookHead) -> "Crop":
        """The crop for a carina, a point [2] of the detail image: most of it shows what lies above, where tips are."""
        return cls.centred(carina - np.array([0.0, (head.above_carina - 0.5) * head.crop]), head)

    @classmethod
    def centred(cls, centre: Points, head: SecondLookHead) -> "Crop":
        """The crop inside the detail image whose centre is nearest to its point `centre` [2]."""
        left, top = np.rint(centre - head.crop / 2).clip(0, head.detail_size - head.crop).astype(int).tolist()
        return cls(left, top, head.crop)

    def cut(self, detail: NDArray[Any]) -> NDArray[Any]:
        """The crop [..., side, side] of an image or of masks [..., D, D]; a view."""
        return detail[..., self.top : self.top + self.side, self.left : self.left + self.side]

    def to_detail(self, points: Points) -> Points:
        """Points of the crop in the detail image."""
        moved: Points = np.asarray(points, np.float64) + np.array([self.left, self.top])
        return moved

    def from_detail(self, points: Points) -> Points:
        """Points of the detail image in the crop; the inverse of `to_detail`."""
        moved: Points = np.asarray(points, np.float64) - np.array([self.left, self.top])
        return moved


def detail_preprocessing(manifest: Manifest) -> Preprocessing | None:
    """How a whole image is placed for the second look: as for the first, larger, all of it. None: there is none."""
    head, first = manifest.second_look, manifest.preprocessing
    if head is None:
        return None
    return first.model_copy(update={"size": head.detail_size, "fit": Fit.LETTERBOX, "resize": None})


def first_placement(manifest: Manifest, detail: Placement) -> Placement:
    """How the image that lies so in its detail image lies in the model's input."""
    return Placement.of(detail.rows, detail.columns, manifest.preprocessing, detail.area)


def crop_for(dense: NDArray[np.floating], manifest: Manifest, detail: Placement) -> Crop | None:
    """Where the second look is directed, from the first look's logits [C, H, W] of one image; None: nowhere.

    By the carina alone, whether a tube was seen or not: a thin tube on a dark film is what the first look overlooks,
    and a tip beside which another line runs what it misplaces (docs/decisions/019).
    Raises ValueError for a bundle without a second look.
    """
    head = manifest.second_look
    if head is None or manifest.dense is None:
        raise ValueError(f"{manifest.name} has no second look")
    if Landmark.CARINA not in manifest.channels:
        return None
    first = first_placement(manifest, detail)
    heat = np.where(first.cells_on_image(dense.shape[1:]), dense[manifest.channels.index(Landmark.CARINA)], NOWHERE)
    # An output that holds NaN is refused later, for the reason that it does.
    peak = locate(heat, manifest.dense.stride) if np.isfinite(heat).all() else None
    if peak is None:
        return None
    return Crop.above(detail.to_model(first.to_image(np.array([[peak.x, peak.y]])))[0], head)


@dataclass(frozen=True, eq=False)
class Looked:
    """The second look at one image, as computed."""

    crop: Crop
    #: float32 [C, h, w]
    logits: NDArray[np.float32]

    def closer(self) -> Closer:
        """To be kept. Raises EngineError when a logit is no number, or too large for float16."""
        with np.errstate(over="ignore"):
            return Closer(self.crop.left, self.crop.top, self.logits.astype(np.float16))


def look_closer(
    dense: NDArray[np.floating],
    details: Sequence[Detail],
    manifest: Manifest,
    compute: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> list[Looked | None]:
    """The second look at each of n images; None: the first one saw nothing to look at.

    Parameters
    ----------
    dense : [n, C, H, W], logits of the first look
    compute : the second look's logits float32 [m, channels, h, w] for crops float32 [m, side, side] in 0..1
    """
    crops = [crop_for(maps, manifest, detail.placement) for maps, detail in zip(dense, details, strict=True)]
    cut = [crop.cut(detail.pixels) for crop, detail in zip(crops, details, strict=True) if crop is not None]
    if not cut:
        return [None] * len(crops)
    logits = iter(compute(np.stack(cut).astype(np.float32) / np.float32(255)))
    return [None if crop is None else Looked(crop, next(logits)) for crop in crops]
