"""The gate: whether a new bundle may become a candidate, by its figures on frozen cases beside the active bundle's.

Every primary metric has to hold, in two ways:

- Its limit: the one-sided 95 % confidence bound of the candidate's figure reaches the limit that the recipe states. The
  bound and not the figure itself: a small or lucky set of cases proves nothing.
- Non-inferiority: the one-sided 95 % confidence bound of the paired difference to the active bundle lies within the
  margin. Both read the same cases, and the same patients are drawn for both (percentile bootstrap, whole patients), so
  that what is hard for both cancels out.

All of them must hold, which makes it an intersection-union test (Berger, Technometrics 1982;24:295-300): a bundle that
is worse than a margin in any metric passes with a probability of at most 5 %, however many metrics there are, and
nothing has to be corrected. What grows with their number is the risk to refuse a bundle that is as good: hence six at
most, and margins well beyond the noise of the cases.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

from schemas.errors import BundleMakingError
from training.evaluation.cases import Cases
from training.evaluation.statistics import auroc, mean, median, patient_resamples, percentile_95

#: Of values [n, k], see Cases.columns.
STATISTICS = {"auroc": auroc, "mean": mean, "median": median, "percentile_95": percentile_95}
#: One-sided.
_CONFIDENCE_PERCENT = 95.0


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PrimaryMetric(_Document):
    """A metric that decides, as a recipe states it."""

    #: "auroc" of a class, or that of a figure over cases (training/evaluation/cases.py).
    statistic: Literal["auroc", "mean", "median", "percentile_95"]
    figure: str
    better: Literal["higher", "lower"]
    #: How much worse than the active bundle is still as good.
    margin: Annotated[float, Field(gt=0)]
    #: The worst that is good enough.
    limit: float

    @property
    def name(self) -> str:
        return f"{'AUROC' if self.statistic == 'auroc' else self.statistic.replace('_', ' ')} {self.figure}"


class GateRules(_Document):
    """The gate of a recipe."""

    metrics: Annotated[list[PrimaryMetric], Field(min_length=1, max_length=6)]


class MetricVerdict(_Document):
    """One metric: figures, bounds, and what speaks against the candidate."""

    metric: PrimaryMetric
    n: int
    patients: int
    candidate: float | None = None
    #: What the candidate reaches with a confidence of 95 %.
    candidate_bound: float | None = None
    active: float | None = None
    #: Candidate minus active, and the worse end of what it may be with a confidence of 95 %.
    difference: float | None = None
    difference_bound: float | None = None
    #: Why it was not compared; "" when it was.
    not_compared: str = ""
    #: Empty: it holds.
    against: list[str]


class GateVerdict(_Document):
    """gate.json: whether the bundle may become a candidate, and why not."""

    passed: bool
    candidate: str
    #: The bundle that it was compared with; None: there was none.
    active: str | None
    cases: int
    patients: int
    metrics: list[MetricVerdict]

    @property
    def reasons(self) -> list[str]:
        """Everything that speaks against the candidate."""
        return [f"{each.metric.name}: {reason}" for each in self.metrics for reason in each.against]


def judge(rules: GateRules, candidate: Cases, active: Cases | None, names: tuple[str, str | None]) -> GateVerdict:
    """The verdict on `candidate`; `active` is None when no bundle is active. `names` are those of the two bundles.

    Raises BundleMakingError when the two did not read the same cases.
    """
    if active is not None and (active.names, active.patients) != (candidate.names, candidate.patients):
        raise BundleMakingError("Candidate and active bundle did not read the same frozen cases: evaluate both again.")
    metrics = [_judge_metric(metric, candidate, active) for metric in rules.metrics]
    return GateVerdict(
        passed=not any(each.against for each in metrics),
        candidate=names[0],
        active=names[1],
        cases=len(candidate),
        patients=len(set(candidate.patients)),
        metrics=metrics,
    )


def gate_table(verdict: GateVerdict) -> Table:
    """The verdict for a person."""
    beside = f"beside {verdict.active}" if verdict.active else "no active bundle: limits only"
    word = "[green]passed[/]" if verdict.passed else "[red]refused[/]"
    table = Table(title=f"Gate: {verdict.candidate} {word} ({beside})")
    for heading in ("primary metric", "n", "candidate", "95 % bound", "limit", "active", "difference", "95 % bound"):
        table.add_column(heading, justify="left" if heading == "primary metric" else "right")
    table.add_column("margin", justify="right")
    table.add_column("verdict")
    for each in verdict.metrics:
        sign = "at least" if each.metric.better == "higher" else "at most"
        table.add_row(
            each.metric.name,
            str(each.n),
            _figure(each.candidate),
            _figure(each.candidate_bound),
            f"{sign} {each.metric.limit:g}",
            _figure(each.active),
            _figure(each.difference, signed=True),
            _figure(each.difference_bound, signed=True),
            f"{each.metric.margin:g}",
            f"[red]{'; '.join(each.against)}[/]" if each.against else f"holds{_note(each)}",
        )
    return table


def _note(verdict: MetricVerdict) -> str:
    return f" (limit only: {verdict.not_compared})" if verdict.not_compared else ""


def _figure(value: float | None, signed: bool = False) -> str:
    return "" if value is None else f"{value:{'+' if signed else ''}.3f}"


def _judge_metric(metric: PrimaryMetric, candidate: Cases, active: Cases | None) -> MetricVerdict:
    own = candidate.columns(metric.statistic, metric.figure)
    applies = np.zeros(len(candidate), dtype=np.bool_) if own is None else np.isfinite(own).all(axis=1)
    patients = np.array(candidate.patients)[applies]
    n, distinct = int(applies.sum()), len(set(patients.tolist()))
    nothing = MetricVerdict(metric=metric, n=n, patients=distinct, against=["the candidate says nothing of it"])
    if own is None or not n:
        return nothing
    statistic = STATISTICS[metric.statistic]
    value = statistic(own[applies])
    if not np.isfinite(value):
        return nothing.model_copy(update={"against": ["the cases do not define it (all of one kind)"]})
    better = 1.0 if metric.better == "higher" else -1.0
    figures = np.array([statistic(own[applies][rows]) for rows in patient_resamples(n, patients)])
    bound = better * _lower(better * figures)
    against = []
    if not better * (bound - metric.limit) >= 0:
        against.append(
            f"it reaches {bound:.3f} with 95 % confidence where {'at least' if better > 0 else 'at most'} "
            f"{metric.limit:g} is asked"
        )
    verdict = MetricVerdict(
        metric=metric, n=n, patients=distinct, candidate=value, candidate_bound=bound, against=against
    )
    if active is None:
        return verdict.model_copy(update={"not_compared": "no bundle is active"})
    other = active.columns(metric.statistic, metric.figure)
    answered = np.zeros(len(active), dtype=np.bool_) if other is None else np.isfinite(other).all(axis=1)
    both = applies & answered
    if other is None or not both.any():
        return verdict.model_copy(update={"not_compared": "the active bundle says nothing of it"})
    if silent := int((answered & ~applies).sum()):
        against.append(f"it says nothing of {silent} cases that the active bundle answers")
    differences = np.array(
        [
            statistic(own[both][rows]) - statistic(other[both][rows])
            for rows in patient_resamples(int(both.sum()), np.array(candidate.patients)[both])
        ]
    )
    worst = better * _lower(better * differences)
    if not better * worst > -metric.margin:
        against.append(
            f"it may be {abs(worst):.3f} {'lower' if better > 0 else 'higher'} than the active bundle's, "
            f"where {metric.margin:g} is allowed"
        )
    other_value = statistic(other[both])
    return verdict.model_copy(
        update={
            "active": other_value,
            "difference": statistic(own[both]) - other_value,
            "difference_bound": worst,
            "against": against,
        }
    )


def _lower(values: NDArray[np.float64]) -> float:
    """The value that is reached with one-sided 95 % confidence; draws without a value (one class only) are left out."""
    return float(np.nanpercentile(values, 100.0 - _CONFIDENCE_PERCENT))
