"""Reads phantoms with a network the way the product does, and compares with the truth, image by image."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from schemas.bundle import Manifest
from schemas.codes import Device, DistanceBasis, Segment, TubePosition
from schemas.result import Point, TubeResult
from training.evaluation.films import PhantomFilm, phantom_films
from training.evaluation.seeing import look
from training.evaluation.typical import OUTLINE_SIDE, FilmTruth, shrunk
from training.examples.targets import DEVICES, REGIONS, phantom_classes, structure_of
from training.phantom.truth import DeviceKind, DeviceTruth, Family, Phantom
from workers.calibration import class_scores
from workers.interpret import Interpretation, interpret
from workers.networks.network import Network
from workers.spacing import Spacing
from workers.tube_limits import endotracheal_limits

#: A point of the true course counts as found within this distance of the traced one.
COURSE_TOLERANCE_MM = 5.0
#: Over so many mm a measured distance turns from surely normal to surely abnormal in `abnormal_score`.
_DOUBT_MM = 3.0
_NOTHING = math.nan


@dataclass(frozen=True)
class TubeReading:
    """How far what was said of the endotracheal tube is from the truth, mm in the patient. NaN: not there, not located.

    Once as served, and once from the first look alone.
    """

    tip_error_mm: float = _NOTHING
    carina_error_mm: float = _NOTHING
    #: Of the distance between tip and carina.
    distance_error_mm: float = _NOTHING
    #: 0..1, how abnormal its position was said to be, see `abnormal_score`.
    abnormal: float = 0.0
    #: Whether results call its position abnormal.
    called_abnormal: bool = False


@dataclass(frozen=True)
class DeviceReading:
    """One device that is on the image: what was found of it."""

    contrast_to_noise: float
    tip_error_mm: float
    #: Share of the true course that was traced, 0..1.
    course_recall: float


@dataclass(frozen=True, eq=False)
class PhantomReading:
    """One phantom: what was said and how far it is from the truth."""

    seed: int
    age_years: float
    sex: str
    view: str
    #: By target: the score that results state; and the truth, where there is one.
    scores: Mapping[str, float]
    truth: Mapping[str, float]
    #: uint8 [S, S], for the baseline.
    image: NDArray[np.uint8]
    #: Why the image was refused; "" otherwise.
    refused: str
    #: Of the regions that it has.
    dice: Mapping[Segment, float]
    tube: TubeReading
    first_look: TubeReading
    devices: Mapping[Device, DeviceReading]
    film: FilmTruth


def read_phantoms(
    network: Network, manifest: Manifest, seeds: Sequence[int], progress: Progress, family: Family = Family.FROZEN
) -> Iterator[tuple[PhantomFilm, Interpretation, PhantomReading]]:
    """Render, infer, interpret and compare each seed. Lateral phantoms are read like any: they are to be refused."""
    task = progress.add_task("Reading fresh phantoms", total=len(seeds))
    for film in phantom_films(seeds, manifest, family):
        output = look(network, manifest, film.seen)
        phantom = film.phantom
        mm = phantom.imager_mm_per_pixel / phantom.magnification
        spacing = Spacing(mm, mm, DistanceBasis.MAGNIFICATION_CORRECTED)
        said, first = (
            interpret(each, manifest, film.seen.placement, spacing, age_years=phantom.age_years)
            for each in (output, replace(output, closer=None))
        )
        scores = dict(
            zip(
                (str(scored.target) for scored in manifest.classes),
                class_scores(output.logits, manifest.classes).tolist(),
                strict=True,
            )
        )
        # Of a device results state class and course together; of a chest that was refused, nothing.
        scores |= {tube.device.presence_target: tube.score for tube in said.tubes}
        reading = PhantomReading(
            seed=phantom.seed,
            age_years=phantom.age_years,
            sex=phantom.sex,
            view=phantom.view.value,
            scores=scores,
            truth=phantom_classes(phantom),
            image=film.seen.image,
            refused=said.refused,
            dice={} if said.refused else _dice(said, phantom),
            tube=_tube(said, phantom, mm),
            first_look=_tube(first, phantom, mm),
            devices=_devices(said, phantom, mm),
            film=_film_truth(phantom, mm),
        )
        yield film, said, reading
        progress.advance(task)


def abnormal_score(tube: TubeResult | None, age_years: float) -> float:
    """0..1: how abnormal the position of a tube is, from all that is said of it; 0 when nothing is.

    Its presence, times the mean of the class head's score and of how far the distance lies beyond the limits of the
    age. What is called absent, or was not located, keeps a small share of its presence: it may have been overlooked.
    """
    if tube is None:
        return 0.0
    says = [] if tube.malposition_score is None else [tube.malposition_score]
    distance = None if tube.tip_to_carina is None else tube.tip_to_carina.millimetres
    if distance is not None:
        limits = endotracheal_limits(age_years)
        beyond = max(limits.low - distance, distance - limits.high) - limits.borderline
        says.append(0.5 * (1 + math.tanh(beyond / (2 * _DOUBT_MM))))
    return tube.score * (sum(says) / len(says) if says else 0.25)


def tube_of(said: Interpretation, device: Device = Device.ENDOTRACHEAL_TUBE) -> TubeResult | None:
    """What is said of a device; None: nothing."""
    return next((tube for tube in said.tubes if tube.device is device), None)


def _tube(said: Interpretation, phantom: Phantom, mm: float) -> TubeReading:
    tube, truth = tube_of(said), phantom.device(DeviceKind.ENDOTRACHEAL_TUBE)
    if tube is None:
        return TubeReading()
    distance_error = _NOTHING
    if truth is not None and truth.tip is not None and truth.tip_to_carina_mm is not None:
        distance = None if tube.tip_to_carina is None else tube.tip_to_carina.millimetres
        distance_error = _NOTHING if distance is None else abs(distance - truth.tip_to_carina_mm)
    return TubeReading(
        tip_error_mm=_NOTHING if truth is None else _apart(tube.tip, truth.tip) * mm,
        carina_error_mm=_apart(tube.carina, phantom.landmarks.get("carina")) * mm,
        distance_error_mm=distance_error,
        abnormal=abnormal_score(tube, phantom.age_years),
        called_abnormal=tube.position is TubePosition.ABNORMAL,
    )


def _devices(said: Interpretation, phantom: Phantom, mm: float) -> dict[Device, DeviceReading]:
    drawn = {device: _on_film(phantom, device) for device in DEVICES}
    return {device: _device(tube_of(said, device), truth, mm) for device, truth in drawn.items() if truth is not None}


def _on_film(phantom: Phantom, device: Device) -> DeviceTruth | None:
    """The first of its kind of which anything is on the film."""
    kind = DeviceKind(device.value)
    return next((each for each in phantom.devices if each.kind is kind and len(each.course)), None)


def _device(tube: TubeResult | None, truth: DeviceTruth, mm: float) -> DeviceReading:
    if tube is None:
        return DeviceReading(truth.contrast_to_noise, _NOTHING, 0.0)
    return DeviceReading(
        truth.contrast_to_noise, _apart(tube.tip, truth.tip) * mm, _course_recall(truth.course, tube.course, mm)
    )


def _dice(said: Interpretation, phantom: Phantom) -> dict[Segment, float]:
    evaluated = {segment.segment for segment in said.segments}
    dice = {}
    for region in REGIONS:
        if region in evaluated and structure_of(region) in phantom.masks:
            truth = phantom.masks[structure_of(region)]
            found = said.masks.get(region, np.zeros(truth.shape, np.bool_))
            dice[region] = float(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))
    return dice


def _film_truth(phantom: Phantom, mm: float) -> FilmTruth:
    drawn = {device: _on_film(phantom, device) for device in DEVICES}
    tube = drawn[Device.ENDOTRACHEAL_TUBE]
    distance = None if tube is None or tube.tip is None else tube.tip_to_carina_mm
    return FilmTruth(
        rows=phantom.image.shape[0],
        columns=phantom.image.shape[1],
        mm_per_pixel=mm,
        tips={device: each.tip for device, each in drawn.items() if each is not None and each.tip is not None},
        carina=phantom.landmarks.get("carina"),
        tip_to_carina_mm=_NOTHING if distance is None else distance,
        regions={
            region: shrunk(phantom.masks[structure_of(region)], OUTLINE_SIDE) > 0.5
            for region in REGIONS
            if structure_of(region) in phantom.masks
        },
    )


def _apart(a: Point | None, b: Point | None) -> float:
    """Pixels between two points; NaN when one is missing."""
    return _NOTHING if a is None or b is None else math.hypot(a.x - b.x, a.y - b.y)


def _course_recall(course: NDArray[np.float32], traced: Sequence[Point], mm_per_pixel: float) -> float:
    if len(traced) < 2:
        return 0.0
    points = np.array([(point.x, point.y) for point in traced])
    steps = np.arange(0, len(points) - 1 + 1e-9, 0.02)
    line = np.stack([np.interp(steps, np.arange(len(points)), points[:, axis]) for axis in range(2)], axis=1)
    nearest = np.linalg.norm(course[:, None] - line[None], axis=2).min(axis=1)
    return float((nearest * mm_per_pixel <= COURSE_TOLERANCE_MM).mean())
