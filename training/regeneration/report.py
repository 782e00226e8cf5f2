"""The report of a training run: one HTML file that needs nothing else, and its pictures beside it.

Written by the last stage of training/regeneration/regenerate.py.
"""

import base64
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from schemas.bundle import Manifest, Metric
from schemas.codes import NOT_FOR_CLINICAL_USE
from training.evaluation.cases import Cases
from training.evaluation.statistics import metric
from training.learning.loop import CurvePoint
from training.regeneration.gate import STATISTICS, GateVerdict, PrimaryMetric
from training.regeneration.plots import save_error_histogram, save_loss_curves, save_roc_curves
from training.regeneration.stages import StageDocument

TEMPLATE = Path(__file__).parent / "templates" / "report.html"
#: A subgroup of fewer cases has no figures.
_LEAST = 10


@dataclass(frozen=True)
class Report:
    """What there is to report."""

    manifest: Manifest
    digest: str
    #: Of the frozen cases.
    cases: Cases
    #: By the name of the training.
    curves: Mapping[str, Sequence[CurvePoint]]
    #: PNG files to be shown; their names are their captions.
    pictures: Sequence[Path]
    stages: Sequence[StageDocument]
    verdict: GateVerdict | None


@dataclass(frozen=True)
class _Picture:
    caption: str
    #: data: URI.
    source: str


@dataclass(frozen=True)
class _Subgroup:
    group: str
    value: str
    cases: int
    figures: list[Metric | None]


def write_report(report: Report, folder: Path) -> None:
    """Write report.html and its PNG files into `folder`."""
    pictures = {
        "Loss": folder / "loss.png",
        "ROC curves": folder / "roc.png",
        "Errors of points": folder / "errors.png",
    }
    save_loss_curves(report.curves, pictures["Loss"])
    save_roc_curves(report.cases, pictures["ROC curves"])
    save_error_histogram(report.cases, pictures["Errors of points"])
    for path in report.pictures:
        pictures[path.stem.lstrip("0123456789 ").capitalize()] = Path(shutil.copy(path, folder / path.name))
    asked = _asked(report)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template(TEMPLATE.name).render(
        manifest=report.manifest,
        figures=_by_data(report.manifest.metrics),
        attribution=report.manifest.training.get("attribution") or [],
        digest=report.digest,
        warning="" if report.manifest.cleared_for_clinical_use else NOT_FOR_CLINICAL_USE,
        verdict=report.verdict,
        asked=asked,
        subgroups=list(_subgroups(report.cases, asked)),
        pictures=[_Picture(caption, _data_uri(path)) for caption, path in pictures.items()],
        stages=report.stages,
        cases=report.cases,
        patients=len(set(report.cases.patients)),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def _by_data(metrics: Sequence[Metric]) -> dict[str, list[Metric]]:
    """What figures are on, and the figures; frozen cases first."""
    by_data: dict[str, list[Metric]] = {"the frozen cases": [each for each in metrics if not each.data]}
    for figure in (each for each in metrics if each.data):
        by_data.setdefault(figure.data, []).append(figure)
    return by_data


def _asked(report: Report) -> list[PrimaryMetric]:
    """What subgroups are compared by: the gate's metrics, without a gate every figure's median or AUROC."""
    if report.verdict is not None:
        return [each.metric for each in report.verdict.metrics]
    figures = report.cases.figures
    classes = [name.removeprefix("score ") for name in figures if name.startswith("score ")]
    others = [name for name in figures if not name.startswith(("score ", "truth "))]
    # Margin and limit are not looked at here.
    return [PrimaryMetric(statistic="auroc", figure=each, better="higher", margin=1, limit=0) for each in classes] + [
        PrimaryMetric(statistic="median", figure=each, better="lower", margin=1, limit=0) for each in others
    ]


def _subgroups(cases: Cases, asked: Sequence[PrimaryMetric]) -> Iterator[_Subgroup]:
    for group, values in cases.groups.items():
        for value in sorted(set(values)):
            inside = np.array(values) == value
            yield _Subgroup(group, value, int(inside.sum()), [_figure(cases, each, inside) for each in asked])


def _figure(cases: Cases, asked: PrimaryMetric, inside: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Metric | None:
    columns = cases.columns(asked.statistic, asked.figure)
    if columns is None:
        return None
    rows = inside & np.isfinite(columns).all(axis=1)
    if rows.sum() < _LEAST:
        return None
    figure = metric(asked.name, columns[rows], STATISTICS[asked.statistic], np.array(cases.patients)[rows])
    return figure if np.isfinite(figure.value) and np.isfinite(figure.low) else None


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
