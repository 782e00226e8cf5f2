"""The endotracheal tube in both looks: what the closer one sees counts.

Called by workers/tubes.py. Points are those of the image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Manifest, SecondLookHead
from schemas.codes import Landmark, Segment, TubePosition
from schemas.errors import BundleError
from schemas.result import Point
from workers.landmark import NOWHERE, locate
from workers.output import Closer
from workers.placement import Placement, Points
from workers.second_look import Crop, detail_preprocessing
from workers.tube_course import simplified, trace_tube
from workers.tube_position import PositionJudgement

#: Points of the two looks that are farther apart than this share of the crop (20 mm of 150) are not the same.
_FARTHEST_APART = 0.133


@dataclass(frozen=True)
class TubePoints:
    """What was located of a tube that is present; None: not located."""

    tip: Point | None
    carina: Point | None
    #: The centre line from the upper end down.
    course: list[Point]
    #: Whether the two looks see the tip or the carina in different places.
    disputed: bool = False


@dataclass(frozen=True)
class CloserTube:
    """What the second look located."""

    points: TubePoints
    #: How plainly the course shows, 0..1.
    course_score: float
    #: The corners of its crop, top left and bottom right.
    crop: tuple[Point, Point]
    #: How far apart, in pixels of the image, the same point may be in both looks.
    tolerance: float

    def looked_at(self, point: Point) -> bool:
        """Whether the point lies in the crop."""
        (left, top), (right, bottom) = ((each.x, each.y) for each in self.crop)
        return left <= point.x <= right and top <= point.y <= bottom


def read_closer(closer: Closer, manifest: Manifest, placement: Placement) -> CloserTube:
    """What the second look says of the image with this `placement` in the first.

    Raises BundleError when it does not have the manifest's channels and size.
    """
    head, preprocessing = manifest.second_look, detail_preprocessing(manifest)
    if head is None or preprocessing is None:
        raise BundleError(f"The output has a second look, the manifest of {manifest.name} has none.")
    cells = head.crop // head.stride
    if closer.dense.shape != (len(head.channels), cells, cells):
        raise BundleError(
            f"The second look gives {list(closer.dense.shape)}, the manifest says {[len(head.channels), cells, cells]}."
        )
    detail = Placement.of(placement.rows, placement.columns, preprocessing, placement.area)
    crop = Crop(closer.left, closer.top, head.crop)
    maps = _maps(closer, head, crop, detail)
    traced = trace_tube(maps[Segment.ENDOTRACHEAL_TUBE], maps[Landmark.ENDOTRACHEAL_TUBE_TIP], head.stride)
    tip, carina = traced.tip, locate(maps[Landmark.CARINA], head.stride)

    def on_image(points: Points) -> list[Point]:
        image = detail.to_image(crop.to_detail(points)).clip(detail.seen[0], detail.seen[1])
        return [Point(x=x, y=y) for x, y in image.tolist()]

    tip_point, carina_point = (
        None if peak is None else on_image(np.array([[peak.x, peak.y]]))[0] for peak in (tip, carina)
    )
    tolerance = _FARTHEST_APART * head.crop * max(placement.area.rows, placement.area.columns) / head.detail_size
    first, last = on_image(np.array([[0.0, 0.0], [crop.side, crop.side]]))
    points = TubePoints(tip_point, carina_point, on_image(traced.points))
    return CloserTube(points, traced.score, (first, last), tolerance)


def refined(first: TubePoints, closer: CloserTube) -> TubePoints:
    """The first look's points with the closer look's in their place, where it has them.

    Where the two do not agree the closer look's count too: it sees the line that is too thin for the first. But then
    the point is disputed: what is measured from it is no ground to call the tube well placed. A tip that the first look
    alone sees, where the closer one looked as well, is none: most such tips are another line's.
    """
    looked = closer.points
    beside = first.tip if first.tip is not None and not closer.looked_at(first.tip) else None
    return TubePoints(
        tip=looked.tip or beside,
        carina=looked.carina or first.carina,
        course=first.course if looked.tip is None else _joined(first.course, closer, looked.tip),
        disputed=_apart(first.tip, looked.tip, closer.tolerance)
        or _apart(first.carina, looked.carina, closer.tolerance),
    )


def doubted(judgement: PositionJudgement) -> PositionJudgement:
    """The position of a tube whose points are disputed: never normal, and an alarm stays one."""
    position = TubePosition.BORDERLINE if judgement.position is TubePosition.NORMAL else judgement.position
    return PositionJudgement(position, f"{judgement.reason} A closer look sees the tip or the carina elsewhere.")


def _apart(one: Point | None, other: Point | None, tolerance: float) -> bool:
    return one is not None and other is not None and float(np.hypot(one.x - other.x, one.y - other.y)) > tolerance


def _maps(
    closer: Closer, head: SecondLookHead, crop: Crop, detail: Placement
) -> dict[Segment | Landmark, NDArray[np.float32]]:
    """The channels that are needed, "surely not" beside the image and where the head has none."""
    cells = crop.side // head.stride
    inside = []
    for origin, first, length in ((crop.top, detail.top, detail.height), (crop.left, detail.left, detail.width)):
        centres = origin + (np.arange(cells) + 0.5) * head.stride
        inside.append((centres >= first) & (centres <= first + length))
    on_image = np.logical_and.outer(inside[0], inside[1])
    wanted = (Segment.ENDOTRACHEAL_TUBE, Landmark.ENDOTRACHEAL_TUBE_TIP, Landmark.CARINA)
    logits = dict(zip(head.channels, closer.dense.astype(np.float32), strict=True))
    nothing = np.full((cells, cells), NOWHERE)
    return {each: np.where(on_image, logits.get(each, nothing), NOWHERE) for each in wanted}


def _joined(first: list[Point], closer: CloserTube, tip: Point) -> list[Point]:
    """The first look's course down to where the closer look's begins, and that one, or just its tip, from there.

    What the first look follows may be another line: it is left out where it does not lead to the beginning.
    """
    end = closer.points.course or [tip]
    above = [point for point in first if point.y < end[0].y]
    points = end if above and abs(above[-1].x - end[0].x) > closer.tolerance else above + end
    return [Point(x=x, y=y) for x, y in simplified(np.array([[each.x, each.y] for each in points])).tolist()]
