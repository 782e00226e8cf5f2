"""What a data source gives: samples, each an image with what is known of it. Curation and training read only these."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.codes import TubePosition
from schemas.errors import SourceError
from schemas.result import Point

#: View Position (0018,5101).
View = Literal["PA", "AP", "LL"]
#: Patient's Sex (0010,0040).
Sex = Literal["F", "M"]
Split = Literal["train", "val", "test"]


class Mask(Protocol):
    """An outline that is read when it is needed."""

    def read(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """The mask at the size of its image, bool [rows, columns]; raises SourceError when it cannot be read."""

    def digest(self) -> str:
        """Hexadecimal SHA-256 of what it is made from: another outline has another one."""


@dataclass(frozen=True, eq=False)
class Course:
    """A line or tube as somebody drew it."""

    #: Name of the device, the first part of its targets: "endotracheal_tube", "central_venous_catheter", ...
    device: str
    #: float32 [points, 2], image pixel coordinates (x, y) as in SCOORD; which end is the tip is not said.
    points: NDArray[np.float32]
    position: TubePosition | None


@dataclass(frozen=True, eq=False)
class Sample:
    """One image. What is not known is None, or absent where it would be an entry."""

    source: str
    #: Stable and unique within the source; never a patient's name or number.
    key: str
    #: Tells patients of this source apart; two images of the same patient carry the same one. Never empty.
    patient: str
    #: As the publisher states it; "" when nothing is stated.
    licence: str
    #: float32 [rows, columns], 0 (black) to 1 (white), bones bright. Raises ChexnodeError when it cannot be read.
    read: Callable[[], NDArray[np.float32]] = field(repr=False)
    #: The file that `read` reads; None when there is none (phantoms).
    path: Path | None = None
    #: 1 = present, 0 = absent, between them how sure somebody was. Keys are values of schemas.codes.Finding,
    #: "view.pa", "view.ap", "view.lateral", "<device>.presence", "<device>.malposition", or a source's own.
    labels: Mapping[str, float] = field(default_factory=dict)
    view: View | None = None
    age_years: float | None = None
    sex: Sex | None = None
    #: Whom to name for this image, with its licence; "" where the source as a whole is named.
    attribution: str = ""
    #: As the publisher splits.
    split: Split | None = None
    #: By structure: "right_lung", "left_lung" (of the patient), "lungs" (both, not told apart), "heart", a device, or a
    #: finding's target. Lungs include what lies behind the heart unless the source's documentation says otherwise.
    masks: Mapping[str, Mask] = field(default_factory=dict)
    #: Image pixel coordinates.
    landmarks: Mapping[str, Point] = field(default_factory=dict)
    courses: tuple[Course, ...] = ()

    def __post_init__(self) -> None:
        if not self.key or not self.patient:
            raise SourceError(f"{self.source}: the image {self.key or self.path} has no key or no patient.")
        wrong = {target: value for target, value in self.labels.items() if not 0.0 <= value <= 1.0}
        if wrong:
            raise SourceError(
                f"{self.source}: labels of {self.key} are not within 0..1: {wrong}. Leave out unknown ones."
            )


class Source(Protocol):
    """A data set in the layout of its publisher."""

    @property
    def name(self) -> str: ...

    @property
    def document(self) -> str:
        """URL or paper that the layout was taken from."""

    @property
    def verified(self) -> bool:
        """Whether real files in this layout were read with it; False: it was written from `document` alone."""

    def __iter__(self) -> Iterator[Sample]:
        """Every radiograph, always in the same order. Raises SourceError when the layout is not as expected."""


def view_labels(view: View | None) -> dict[str, float]:
    """The targets that say from which side the image was taken; empty when the view is unknown."""
    if view is None:
        return {}
    return {"view.pa": float(view == "PA"), "view.ap": float(view == "AP"), "view.lateral": float(view == "LL")}
