"""Evaluation on frozen phantoms: the figures of a model card, each with n, 95 % interval and the trivial baseline.

A phantom is a patient of its own, so that intervals over images are intervals over patients. Distances are those of
points that were located; how many were stands beside them. Called by the stage that evaluates, and by `chexnode train
evaluate`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Metric
from schemas.codes import Device, Segment
from training.evaluation.baseline import ThumbnailBaseline
from training.evaluation.cases import NOT_LOCATED_MM, Cases
from training.evaluation.reading import COURSE_TOLERANCE_MM, PhantomReading, TubeReading
from training.evaluation.statistics import (
    auroc,
    auroc_metric,
    mean,
    median,
    metric,
    percentile_95,
    sensitivity_at_specificity,
    sensitivity_metric,
    share,
)
from training.evaluation.typical import TypicalChest
from training.examples.store import Examples
from training.examples.targets import DEVICES, TARGETS

#: What a baseline scores beyond `TARGETS`: a tube that lies abnormally against all other images.
_ABNORMAL = "endotracheal_tube.abnormal"
_PRESENCE, _MALPOSITION = "endotracheal_tube.presence", "endotracheal_tube.malposition"
_TERCILES = ("lowest", "middle", "highest")
_LUNGS = (Segment.RIGHT_LUNG, Segment.LEFT_LUNG)

Column = NDArray[np.float64]


class PhantomBaseline:
    """What needs no reading of the image, fitted on examples that the network learned from.

    Classes by an 8 x 8 thumbnail, places and outlines by where they usually are.
    """

    def __init__(self, learned: Examples) -> None:
        self.typical = TypicalChest(learned)
        classes = np.column_stack([learned.classes, _abnormal_truth(learned)])
        self._baseline = ThumbnailBaseline(_Labelled(learned.images, classes))
        self._columns = (*TARGETS, _ABNORMAL)

    def scores(self, readings: Sequence[PhantomReading]) -> dict[str, Column]:
        """By target: a score for each reading."""
        columns = self._baseline.scores(np.stack([reading.image for reading in readings]))
        return dict(zip(self._columns, columns.T, strict=True))


def evaluate_phantoms(readings: Sequence[PhantomReading], baseline: PhantomBaseline) -> list[Metric]:
    """All figures; one that no image defines (no tip located, one class only) is left out."""
    trivial = baseline.scores(readings)
    figures = [
        *_abnormal_tubes(readings, trivial[_ABNORMAL]),
        *_tube_errors(readings, baseline.typical),
        *_called(readings),
        *_anatomy(readings, baseline.typical),
        *_classes(readings, trivial),
        *_devices(readings, baseline.typical),
        *_subgroups(readings),
    ]
    return [figure for figure in figures if math.isfinite(figure.value) and math.isfinite(figure.low)]


def phantom_cases(readings: Sequence[PhantomReading]) -> Cases:
    """The same readings one row each, for the gate and the report. A tip that was not located counts as far off."""
    frontal = [reading for reading in readings if reading.view != "LL"]
    tubes = np.array([Device.ENDOTRACHEAL_TUBE in reading.devices for reading in frontal])

    def error(pick: Callable[[PhantomReading], float], where: NDArray[np.bool_]) -> Column:
        return np.where(where, np.nan_to_num(_column([pick(each) for each in frontal]), nan=NOT_LOCATED_MM), np.nan)

    figures = {
        "tube tip error mm": error(lambda each: each.tube.tip_error_mm, tubes),
        "tip to carina error mm": error(lambda each: each.tube.distance_error_mm, tubes),
        "carina error mm": error(lambda each: each.tube.carina_error_mm, tubes),
        "score abnormal tube": _column([each.tube.abnormal for each in frontal]),
        "truth abnormal tube": _abnormal(frontal),
    }
    for segment in sorted({segment for each in frontal for segment in each.dice}):
        # Where a chest was refused nothing is outlined.
        figures[f"Dice {segment.value}"] = _column(
            [each.dice.get(segment, 0.0 if each.refused else math.nan) for each in frontal]
        )
    for target in frontal[0].scores:
        figures[f"score {target}"] = _column([each.scores[target] for each in frontal])
        figures[f"truth {target}"] = _column([each.truth.get(target, math.nan) for each in frontal])
    names = tuple(f"phantom {each.seed}" for each in frontal)
    groups = {
        "view": tuple(each.view for each in frontal),
        "sex": tuple(each.sex for each in frontal),
        "age": tuple(_age_group(each.age_years) for each in frontal),
        "device": tuple("tube" if tube else "no tube" for tube in tubes),
    }
    return Cases(names=names, patients=names, figures=figures, groups=groups)


@dataclass(frozen=True, eq=False)
class _Labelled:
    images: NDArray[np.uint8]
    classes: NDArray[np.float32]


def _abnormal_truth(learned: Examples) -> NDArray[np.float32]:
    presence, malposition = (learned.classes[:, TARGETS.index(target)] for target in (_PRESENCE, _MALPOSITION))
    return np.where(presence == 0, np.float32(0), malposition)


def _abnormal(readings: Sequence[PhantomReading]) -> Column:
    """1 for a tube that lies abnormally, 0 for all else, NaN for one of which nobody can say (tip not on the film)."""
    return _column(
        [0.0 if each.truth.get(_PRESENCE) == 0 else each.truth.get(_MALPOSITION, math.nan) for each in readings]
    )


def _abnormal_tubes(readings: Sequence[PhantomReading], trivial: Column) -> list[Metric]:
    """Abnormal tubes against the rest: all, then the tubes of each tercile of contrast-to-noise and those without."""
    truth = np.where([each.view == "LL" for each in readings], np.nan, _abnormal(readings))
    said = _column([each.tube.abnormal for each in readings])
    contrast = _column(
        [
            each.devices[Device.ENDOTRACHEAL_TUBE].contrast_to_noise
            if Device.ENDOTRACHEAL_TUBE in each.devices
            else np.nan
            for each in readings
        ]
    )
    limits = np.nanquantile(contrast, [1 / 3, 2 / 3]) if np.isfinite(contrast).any() else np.array([0.0, 0.0])
    tercile = np.digitize(contrast, limits)
    chosen = {"all": np.isfinite(truth)}
    for index, name in enumerate(_TERCILES):
        chosen[f"{name} tercile of contrast"] = np.isfinite(truth) & (np.isnan(contrast) | (tercile == index))
    figures = []
    for name, rows in chosen.items():
        samples, beside = (np.stack([scores[rows], truth[rows]], axis=1) for scores in (said, trivial))
        figures.append(_beside(auroc_metric(f"AUROC abnormal tube, {name}", samples), auroc(beside)))
        sensitivity = sensitivity_metric(f"abnormal tube, sensitivity at 95 % specificity, {name}", samples)
        figures.append(_beside(sensitivity, sensitivity_at_specificity(beside)))
    return figures


def _tube_errors(readings: Sequence[PhantomReading], typical: TypicalChest) -> list[Metric]:
    tubes = [each for each in readings if Device.ENDOTRACHEAL_TUBE in each.devices and _MALPOSITION in each.truth]
    usual = {
        "tube tip": _column([typical.tip_error_mm(each.film, Device.ENDOTRACHEAL_TUBE) for each in tubes]),
        "tip to carina": _column([typical.distance_error_mm(each.film) for each in tubes]),
        "carina": _column([typical.carina_error_mm(each.film) for each in tubes]),
    }
    figures = []
    looks: tuple[tuple[str, list[TubeReading]], ...] = (
        ("", [each.tube for each in tubes]),
        (", first look alone", [each.first_look for each in tubes]),
    )
    for look, said in looks:
        tip = _column([each.tip_error_mm for each in said])
        figures.append(share(f"tube tip located, share{look}", np.isfinite(tip)))
        for name, errors in (
            ("tube tip", tip),
            ("tip to carina", _column([each.distance_error_mm for each in said])),
            ("carina", _column([each.carina_error_mm for each in said])),
        ):
            figures += _errors(f"{name} error", errors, usual[name], look)
    return figures


def _called(readings: Sequence[PhantomReading]) -> list[Metric]:
    """What results call abnormal, of all tubes whose position is known: overlooked ones are not called so."""
    tubes = [each for each in readings if Device.ENDOTRACHEAL_TUBE in each.devices and _MALPOSITION in each.truth]
    bad = [each.tube.called_abnormal for each in tubes if each.truth[_MALPOSITION] == 1]
    good = [not each.tube.called_abnormal for each in tubes if each.truth[_MALPOSITION] == 0]
    return [
        share("malpositioned tube called abnormal, sensitivity", np.array(bad, np.bool_)),
        share("malpositioned tube called abnormal, specificity among tubes", np.array(good, np.bool_)),
    ]


def _anatomy(readings: Sequence[PhantomReading], typical: TypicalChest) -> list[Metric]:
    frontal = [each for each in readings if each.view != "LL"]
    both = [each for each in frontal if all(lung in each.dice for lung in _LUNGS)]
    lungs = metric("Dice lungs, mean", _column([_lungs(each) for each in both]), mean)
    usual = _column([float(np.mean([typical.dice(each.film, lung) for lung in _LUNGS])) for each in both])
    figures = [_beside(lungs, _mean_of_known(usual))]
    for segment in sorted({segment for each in frontal for segment in each.dice}):
        outlined = [each for each in frontal if segment in each.dice]
        figure = metric(f"Dice {segment}, mean", _column([each.dice[segment] for each in outlined]), mean)
        usual = _column([typical.dice(each.film, segment) for each in outlined])
        figures.append(_beside(figure, _mean_of_known(usual)))
    refused = np.array([bool(each.refused) for each in frontal])
    return [*figures, share("frontal chests refused, share", refused)]


def _lungs(reading: PhantomReading) -> float:
    return float(np.mean([reading.dice[lung] for lung in _LUNGS]))


def _classes(readings: Sequence[PhantomReading], trivial: dict[str, Column]) -> list[Metric]:
    figures = []
    for target in readings[0].scores:
        if target not in TARGETS:
            continue
        truth = _column([each.truth.get(target, math.nan) for each in readings])
        said = _column([each.scores[target] for each in readings])
        known = np.isfinite(truth)
        figure = auroc_metric(f"AUROC {target}", np.stack([said[known], truth[known]], axis=1))
        figures.append(_beside(figure, auroc(np.stack([trivial[target][known], truth[known]], axis=1))))
    return figures


def _devices(readings: Sequence[PhantomReading], typical: TypicalChest) -> list[Metric]:
    figures = []
    for device in DEVICES:
        shown = [each for each in readings if device in each.devices]
        found = [each.devices[device] for each in shown]
        words = device.value.replace("_", " ")
        recall = _column([each.course_recall for each in found])
        figures.append(metric(f"{words} course traced within {COURSE_TOLERANCE_MM:g} mm, mean share", recall, mean))
        if device is not Device.ENDOTRACHEAL_TUBE:
            usual = _column([typical.tip_error_mm(each.film, device) for each in shown])
            on_film, errors = np.isfinite(usual), _column([each.tip_error_mm for each in found])
            figures.append(share(f"{words} tip located, share", np.isfinite(errors[on_film])))
            figures += _errors(f"{words} tip error", errors, usual, "")
    return figures


def _subgroups(readings: Sequence[PhantomReading]) -> list[Metric]:
    """Lungs and abnormal tubes by age, sex and view."""
    frontal = [each for each in readings if each.view != "LL"]
    kinds: dict[str, Callable[[PhantomReading], str]] = {
        "age": lambda each: _age_group(each.age_years),
        "sex": lambda each: each.sex,
        "view": lambda each: each.view,
    }
    figures = []
    for kind, value_of in kinds.items():
        for value in sorted({value_of(each) for each in frontal}):
            group = [each for each in frontal if value_of(each) == value]
            lungs = [_lungs(each) for each in group if all(lung in each.dice for lung in _LUNGS)]
            figures.append(metric(f"Dice lungs, mean, {kind} {value}", _column(lungs), mean))
            truth = _abnormal(group)
            samples = np.stack([_column([each.tube.abnormal for each in group]), truth], axis=1)[np.isfinite(truth)]
            figures.append(auroc_metric(f"AUROC abnormal tube, {kind} {value}", samples))
    return figures


def _errors(name: str, errors: Column, usual: Column, suffix: str) -> list[Metric]:
    """Of the points that were located; beside them how far the same points are from their usual place."""
    rows = np.isfinite(errors)
    located, beside = errors[rows], usual[rows & np.isfinite(usual)]
    return [
        _beside(metric(f"{name}, {words} mm{suffix}", located, of), of(beside) if len(beside) else math.nan)
        for words, of in (("median", median), ("95th percentile", percentile_95))
    ]


def _mean_of_known(values: Column) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _beside(figure: Metric, baseline: float) -> Metric:
    return figure.model_copy(update={"baseline": None if math.isnan(baseline) else baseline})


def _age_group(years: float) -> str:
    return "under 18" if years < 18 else "18 to 64" if years < 65 else "65 and over"


def _column(values: Sequence[float]) -> Column:
    return np.array(values, dtype=np.float64)
