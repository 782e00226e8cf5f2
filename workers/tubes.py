"""What is said of each tube and line: is it there, where does it run and end, and does it lie well.

Called by workers/interpret.py. Presence and position are two things: docs/decisions/004; how the sources of each are
weighed against each other: docs/decisions/017.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Calibration, Manifest, ScoredClass
from schemas.codes import Device, DistanceBasis, Landmark, Segment
from schemas.result import Point, TipToCarina, TubeResult
from workers.calibration import calibration_reference
from workers.landmark import NOWHERE, locate, sigmoid
from workers.line_course import trace_line
from workers.placement import Placement
from workers.spacing import Spacing
from workers.tube_course import TubeCourse, trace_tube
from workers.tube_position import PositionJudgement, position_by_class, tube_position
from workers.two_looks import CloserTube, TubePoints, doubted, refined

#: The course's logit weighs no more than this when presence is read from class and course together: a line that is
#: plain to see, but of another kind, does not outvote a class head that is sure.
_SURE = 6.0
_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Maps:
    """The dense head's maps of one image."""

    #: float32 [H, W], logits, `stride` model pixels per cell.
    logits: Mapping[Segment | Landmark, NDArray[np.float32]]
    stride: int
    placement: Placement

    def on_image(self, channel: Segment | Landmark) -> NDArray[np.float32] | None:
        """The map with nothing beside the image; None when the bundle has none."""
        if channel not in self.logits:
            return None
        logits = self.logits[channel]
        return np.where(self.placement.cells_on_image(logits.shape), logits, NOWHERE)

    def to_image(self, points: object) -> list[Point]:
        """Model points [N, 2] as image points; a centroid of a cell at the border stays on what the model sees."""
        seen = self.placement.seen
        image = self.placement.to_image(np.asarray(points, np.float64).reshape(-1, 2)).clip(seen[0], seen[1])
        return [Point(x=x, y=y) for x, y in image.tolist()]


def read_tubes(
    scores: Mapping[str, float],
    manifest: Manifest,
    maps: Maps | None,
    spacing: Spacing,
    age_years: float | None,
    closer: CloserTube | None = None,
) -> list[TubeResult]:
    """One result per device whose presence the bundle can tell. `scores` are those of its classes by target, 0..1.

    `closer` is what a second look located of the endotracheal tube; None: there was none.
    """
    classes: dict[str, ScoredClass] = {scored.target: scored for scored in manifest.classes}
    found = []
    for device in Device:
        presence = classes.get(device.presence_target)
        # Without an operating point nobody can say whether there is one: "absent" would reassure without ground.
        if presence is None or presence.operating_point is None or maps is None:
            continue
        malposition = classes.get(device.malposition_target)
        looked = closer if device is Device.ENDOTRACHEAL_TUBE else None
        found.append(_Reader(device, presence, malposition, scores, maps, spacing, age_years, looked).read())
    return found


@dataclass(frozen=True, eq=False)
class _Reader:
    device: Device
    presence: ScoredClass
    malposition: ScoredClass | None
    scores: Mapping[str, float]
    maps: Maps
    spacing: Spacing
    age_years: float | None
    closer: CloserTube | None

    def read(self) -> TubeResult:
        traced = _traced(self.device, self.maps)
        course_score = None if traced is None or self.device.segment not in self.maps.logits else traced.score
        if self.closer is not None:
            course_score = self.closer.course_score
        score = presence_score(self.scores[self.presence.target], course_score, *_curve(self.presence.calibration))
        points = self._points(traced)
        result = TubeResult(
            device=self.device,
            present=score >= (self.presence.operating_point or 0.0),
            score=score,
            operating_point=self.presence.operating_point,
            # Together with the course it is no probability any more.
            calibrated=self.presence.calibrated and course_score is None,
            calibration=calibration_reference(self.presence) if course_score is None else None,
            course_score=course_score,
            carina=points.carina,
        )
        return self._placed(result, points, traced is not None) if result.present else result

    def _points(self, traced: TubeCourse | None) -> TubePoints:
        """Tip, carina and course, from both looks where there are two."""
        tip = None
        if traced is not None and traced.tip is not None:
            (tip,) = self.maps.to_image([traced.tip.x, traced.tip.y])
        course = [] if traced is None else self.maps.to_image(traced.points)
        first = TubePoints(tip, self._carina(), course)
        return first if self.closer is None else refined(first, self.closer)

    def _placed(self, result: TubeResult, points: TubePoints, looked_for: bool) -> TubeResult:
        """`result` with what is said of a device that is present: its course, tip and position."""
        distance = _tip_to_carina(points.tip, points.carina, self.spacing)
        # A class that is undetermined (docs/decisions/009) has no say.
        told = self.malposition is not None and self.malposition.operating_point is not None
        malposition_score = self.scores[self.malposition.target] if self.malposition and told else None
        judgement = self._judged(distance, malposition_score, points.tip is not None if looked_for else None)
        if points.disputed:
            judgement = doubted(judgement)
        return result.model_copy(
            update={
                "position": judgement.position,
                "position_reason": judgement.reason,
                "malposition_score": malposition_score,
                "malposition_calibration": calibration_reference(self.malposition) if told else None,
                "tip": points.tip,
                "course": points.course,
                "tip_to_carina": distance,
            }
        )

    def _judged(
        self, distance: TipToCarina | None, malposition_score: float | None, tip_located: bool | None
    ) -> PositionJudgement:
        operating_point = None if self.malposition is None else self.malposition.operating_point
        if self.device is Device.ENDOTRACHEAL_TUBE:
            return tube_position(distance, malposition_score, operating_point, self.age_years)
        return position_by_class(tip_located, malposition_score, operating_point)

    def _carina(self) -> Point | None:
        """What a tube in the trachea is measured against; of other devices nothing is measured."""
        carina = self.maps.on_image(Landmark.CARINA) if self.device is Device.ENDOTRACHEAL_TUBE else None
        peak = None if carina is None else locate(carina, self.maps.stride)
        return None if peak is None else self.maps.to_image([peak.x, peak.y])[0]


def course_score(device: Device, maps: Maps, closer: CloserTube | None = None) -> float | None:
    """How plainly a device's course shows, 0..1; None where the bundle has no such channel. Called by calibration."""
    if device is Device.ENDOTRACHEAL_TUBE and closer is not None:
        return closer.course_score
    traced = _traced(device, maps) if device.segment in maps.logits else None
    return None if traced is None else traced.score


def presence_score(class_score: float, course_score: float | None, slope: float = 1.0, intercept: float = 0.0) -> float:
    """Presence from the class head and from the course: the mean of their logits, calibrated as the class is.

    Of the bare logits, or a calibration for a rare device would make of a course that says nothing one that says yes.
    `slope` (not 0) and `intercept` are the calibration's. Operating points belong to this score: calibration chooses
    them on it.
    """
    if course_score is None:
        return class_score
    course = min(max(_logit(course_score), -_SURE), _SURE)
    bare = (_logit(class_score) - intercept) / slope
    return float(sigmoid(np.array(slope * (bare + course) / 2 + intercept)))


def _curve(calibration: Calibration | None) -> tuple[float, float]:
    return (1.0, 0.0) if calibration is None else (calibration.slope, calibration.intercept)


def _traced(device: Device, maps: Maps) -> TubeCourse | None:
    """None where the bundle has neither its course nor its tip."""
    course, tip = maps.on_image(device.segment), maps.on_image(device.tip)
    known = course if course is not None else tip
    if known is None:
        return None
    nothing = np.full_like(known, NOWHERE)
    # In the trachea a line runs down the film: what runs across it is another one.
    trace = trace_tube if device is Device.ENDOTRACHEAL_TUBE else trace_line
    return trace(nothing if course is None else course, nothing if tip is None else tip, maps.stride)


def _logit(score: float) -> float:
    bounded = min(max(score, _TINY), 1 - _TINY)
    return float(np.log(bounded / (1 - bounded)))


def _tip_to_carina(tip: Point | None, carina: Point | None, spacing: Spacing) -> TipToCarina | None:
    if tip is None or carina is None:
        return None
    pixels = carina.y - tip.y
    if spacing.basis is DistanceBasis.NONE:
        return TipToCarina(pixels=pixels, millimetres=None, basis=spacing.basis)
    millimetres = pixels * spacing.row_mm
    distance = TipToCarina(pixels=pixels, millimetres=millimetres, basis=spacing.basis)
    if spacing.basis is not DistanceBasis.DETECTOR_PLANE:
        return distance
    lowest, highest = sorted(millimetres / magnification for magnification in spacing.magnification)
    return distance.model_copy(update={"lowest_millimetres": lowest, "highest_millimetres": highest})
