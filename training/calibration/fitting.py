"""Calibration and operating points of a bundle's classes, on labelled cases that it was not trained on.

Called by `chexnode train regenerate` on validation data and by `chexnode train calibrate` on a department's own.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from schemas.bundle import Calibration, Manifest, Metric, ScoredClass
from training.calibration.error import calibration_error_metric
from training.calibration.operating_points import point_of_sensitivity
from training.evaluation.statistics import auroc, metric, share
from workers.calibration import class_scores
from workers.landmark import sigmoid
from workers.tubes import presence_score

#: Of cases with the finding and of cases without it: fewer make a curve of two numbers a matter of luck.
LEAST_CASES = 20
#: Patients with the finding, and patients without it.
LEAST_PATIENTS = 10
_PARTS = 5


@dataclass(frozen=True, eq=False)
class LabelledLogits:
    """What a network says of labelled images."""

    #: float [n, K], in the order of the manifest's classes.
    logits: NDArray[np.floating]
    #: float [n, K]: 1 present, 0 absent, NaN unknown.
    truth: NDArray[np.floating]
    #: [n], of any type that sorts; images of one patient are never on both sides of a split.
    patients: NDArray[np.generic]
    #: By presence target, [n]: how plainly the device's course shows, 0..1, where presence is decided from class and
    #: course together (workers/tubes.py). Targets that have none are decided by their class alone.
    courses: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)


@dataclass(frozen=True)
class CalibrationPlan:
    """What a calibration is made for."""

    #: Name of the cases' data in words; whether they are radiographs of patients of the intended population.
    data: str
    real: bool
    #: That operating points are chosen for, at least; and by class target where it is another one.
    sensitivity: float = 0.9
    sensitivities: Mapping[str, float] = field(default_factory=dict)
    #: Share of present among the patients to come, by class target, where it is another one than among the cases.
    prevalences: Mapping[str, float] = field(default_factory=dict)
    #: A class whose operating point would keep fewer of the cases without it apart has none: on a worklist it would be
    #: noise. Not asked of those in `sensitivities`: who states one for a class has weighed what it costs.
    least_specificity: float = 0.5
    #: By class target: why it has no operating point whatever these cases say, where more is known than they show.
    withheld: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CalibratedClass:
    """One class before and after, with figures on cases that took no part in what they measure."""

    before: ScoredClass
    #: Equal to `before` where the cases do not suffice.
    after: ScoredClass
    #: Why it stayed as it was, has no calibration, or has no operating point; "" otherwise.
    reason: str
    #: LabelledLogits with a label, those of them that are present, and their patients.
    n: int
    present: int
    patients: int
    #: Scores [n] of the cases with a label before and, each by the fit to other patients, after, and their truth [n].
    scores_before: NDArray[np.float64]
    scores: NDArray[np.float64]
    truth: NDArray[np.float64]
    #: [n], of the cases at the plan's prevalence; all 1 where none is stated.
    weights: NDArray[np.float64]
    #: None where the cases do not suffice, or where there is no calibration or operating point to measure.
    auroc: Metric | None = None
    error_before: Metric | None = None
    error: Metric | None = None
    sensitivity: Metric | None = None
    specificity: Metric | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether the cases sufficed."""
        return self.auroc is not None


def calibrated_classes(manifest: Manifest, cases: LabelledLogits, plan: CalibrationPlan) -> Iterator[CalibratedClass]:
    """Each class of the manifest in turn, calibrated by Platt scaling, with the plan's operating point.

    A class whose cases do not suffice (LEAST_CASES, LEAST_PATIENTS) stays as it is. One whose score does not rise with
    the finding gets neither; one that is no better than chance (95 % interval of the AUROC), or that would call most
    cases without it present (`least_specificity`), no operating point.

    Figures after the fit are cross-fitted: the patients are split in five, and each part is scored and decided by what
    the others give. The calibration itself is that of all cases.
    """
    scores = class_scores(cases.logits, manifest.classes)
    for index, scored in enumerate(manifest.classes):
        known = np.isfinite(cases.truth[:, index])
        truth = (cases.truth[known, index] > 0.5).astype(np.float64)
        course = cases.courses.get(str(scored.target))
        yield _calibrated(
            scored,
            np.asarray(cases.logits[known, index], np.float64),
            scores[known, index],
            truth,
            cases.patients[known],
            None if course is None else course[known],
            plan,
        )


def with_classes(manifest: Manifest, classes: list[CalibratedClass]) -> Manifest:
    """The manifest with the classes as they are after calibration, in its order."""
    head = manifest.classifier
    if head is None:
        return manifest
    rated = head.model_copy(update={"classes": [each.after for each in classes]})
    return manifest.model_copy(update={"heads": [rated if each is head else each for each in manifest.heads]})


def _calibrated(
    before: ScoredClass,
    logits: NDArray[np.float64],
    scores_before: NDArray[np.float64],
    truth: NDArray[np.float64],
    patients: NDArray[np.generic],
    course: NDArray[np.floating] | None,
    plan: CalibrationPlan,
) -> CalibratedClass:
    target = before.target
    unfitted = CalibratedClass(
        before=before,
        after=before,
        reason=too_few(truth, patients),
        n=len(truth),
        present=int(truth.sum()),
        patients=len(np.unique(patients)),
        scores_before=scores_before,
        scores=scores_before,
        truth=truth,
        weights=np.ones(len(truth)),
    )
    if unfitted.reason:
        return unfitted
    prevalence = plan.prevalences.get(target, float(truth.mean()))
    weights = np.where(truth > 0.5, prevalence / truth.mean(), (1 - prevalence) / (1 - truth.mean()))
    wanted = plan.sensitivities.get(target, plan.sensitivity)
    # Of the logits: held-out scores rise with them within a part only.
    area = metric(f"AUROC {target}", np.stack([logits, truth], axis=1), auroc, patients)
    measured = replace(
        unfitted,
        weights=weights,
        auroc=area,
        error_before=calibration_error_metric(
            f"expected calibration error before, {target}", scores_before, truth, patients, weights
        ),
    )
    curve = _fitted(logits, truth, prevalence)
    if curve.slope <= 0:
        after = before.model_copy(update={"calibration": None, "operating_point": None, "calibrated": False})
        return replace(measured, after=after, reason="its score does not rise with the finding")
    held_out = _cross_fitted(logits, truth, patients, course, prevalence, wanted)
    error = calibration_error_metric(f"expected calibration error {target}", held_out.scores, truth, patients, weights)
    calibration = Calibration(
        slope=curve.slope,
        intercept=curve.intercept,
        prevalence=prevalence,
        n=len(truth),
        data=plan.data,
        real=plan.real,
        expected_calibration_error=error.value,
    )
    after = before.model_copy(
        update={"calibration": calibration, "calibrated": plan.real, "operating_point": None},
    )
    calibrated = replace(measured, after=after, scores=held_out.scores, error=error)
    if area.low <= 0.5:
        return replace(calibrated, reason="no better than chance on these cases")
    point = point_of_sensitivity(_decided(curve, logits, course), truth, wanted)
    assert point is not None
    present = truth > 0.5
    decided = replace(
        calibrated,
        sensitivity=share(f"sensitivity {target}", held_out.called[present], patients[present]),
        specificity=share(f"specificity {target}", ~held_out.called[~present], patients[~present]),
    )
    if target in plan.withheld:
        return replace(decided, reason=plan.withheld[target])
    kept_apart = float((~held_out.called[~present]).mean())
    if target not in plan.sensitivities and kept_apart < plan.least_specificity:
        return replace(
            decided,
            reason=f"at a sensitivity of {wanted:.2f} its specificity is {kept_apart:.2f}, "
            f"at least {plan.least_specificity:.2f} is asked",
        )
    # Strictly between 0 and 1, where a score of float64 may be either.
    point = float(np.clip(point, 1e-6, 1 - 1e-6))
    return replace(decided, after=after.model_copy(update={"operating_point": point}))


def too_few(truth: NDArray[np.float64], patients: NDArray[np.generic]) -> str:
    """Why these cases of one class do not suffice, truth [n] 1 or 0 (NaN: none); "" when they do."""
    for kind, members in (("with", truth > 0.5), ("without", truth <= 0.5)):
        cases, count = int(members.sum()), len(np.unique(patients[members]))
        if cases < LEAST_CASES:
            return f"{cases} cases {kind} it, at least {LEAST_CASES} are needed"
        if count < LEAST_PATIENTS:
            return f"its cases {kind} it are of {count} patients, at least {LEAST_PATIENTS} are needed"
    return ""


@dataclass(frozen=True)
class _Curve:
    """A fitted sigmoid; its slope may come out below 0."""

    slope: float
    intercept: float

    def scores(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        return sigmoid(self.slope * logits + self.intercept)


def _fitted(logits: NDArray[np.float64], truth: NDArray[np.float64], prevalence: float) -> _Curve:
    """Platt scaling with his smoothed targets (Advances in large margin classifiers, 1999, 61-74), by which cases that
    a threshold separates give no infinite slope; then moved from the prevalence of the cases to the one stated."""
    present = float(truth.sum())
    absent = len(truth) - present
    targets = np.where(truth > 0.5, (present + 1) / (present + 2), 1 / (absent + 2))
    # A smoothed target is a case of both kinds, with so much weight each.
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", max_iter=200)
    model.fit(
        np.concatenate([logits, logits])[:, None],
        np.repeat([1, 0], len(logits)),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    shift = float(logit(prevalence) - logit(present / len(truth)))
    return _Curve(float(model.coef_[0, 0]), float(model.intercept_[0]) + shift)


def _decided(curve: _Curve, logits: NDArray[np.float64], course: NDArray[np.floating] | None) -> NDArray[np.float64]:
    """What is held against the operating point."""
    scores = curve.scores(logits)
    # A fold's curve may come out flat; a class of which the whole does is not decided at all.
    if course is None or curve.slope <= 0:
        return scores
    return np.array(
        [presence_score(*each, curve.slope, curve.intercept) for each in zip(scores, course, strict=True)], np.float64
    )


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """LabelledLogits scored and decided by what other patients give."""

    scores: NDArray[np.float64]
    called: NDArray[np.bool_]


def _cross_fitted(
    logits: NDArray[np.float64],
    truth: NDArray[np.float64],
    patients: NDArray[np.generic],
    course: NDArray[np.floating] | None,
    prevalence: float,
    sensitivity: float,
) -> _HeldOut:
    scores, called = np.full(len(truth), np.nan), np.zeros(len(truth), np.bool_)
    part = _parts(truth, patients)
    for index in range(_PARTS):
        held_out, others = part == index, part != index
        curve = _fitted(logits[others], truth[others], prevalence)
        scores[held_out] = curve.scores(logits[held_out])
        decided = _decided(curve, logits, course)
        point = point_of_sensitivity(decided[others], truth[others], sensitivity)
        called[held_out] = decided[held_out] >= (math.inf if point is None else point)
    return _HeldOut(scores, called)


def _parts(truth: NDArray[np.float64], patients: NDArray[np.generic]) -> NDArray[np.int64]:
    """The part [n] that each case is held out with. Patients are dealt out at random, of each kind as many to each.

    Kinds: with it only, without it only, both.
    """
    _, patient = np.unique(patients, return_inverse=True)
    count = int(patient.max()) + 1
    has_present, has_absent = (np.bincount(patient, kind, count) > 0 for kind in (truth > 0.5, truth <= 0.5))
    shuffled = np.random.default_rng(0).permutation(count)
    by_kind = shuffled[np.argsort((2 * has_present + has_absent)[shuffled], kind="stable")]
    dealt = np.empty(count, np.int64)
    dealt[by_kind] = np.arange(count) % _PARTS
    parts: NDArray[np.int64] = dealt[patient]
    return parts
