"""Plots of a training run: loss, ROC curves, errors of the tube's tip. Called by training/regeneration/report.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from training.evaluation.cases import NOT_LOCATED_MM, Cases
from training.evaluation.statistics import auroc
from training.learning.loop import CurvePoint

_DPI = 90
#: Errors beyond it share the last bar, mm.
_LONGEST_MM = 30.0


def save_loss_curves(curves: Mapping[str, Sequence[CurvePoint]], path: Path) -> None:
    """One panel per training, one line per part of its loss, logarithmic."""
    figure = Figure(figsize=(7 * len(curves), 4.5), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (name, curve) in zip(panels, curves.items(), strict=True):
        for part in curve[0].losses:
            axes.plot([point.step for point in curve], [point.losses[part] for point in curve], label=part, linewidth=1)
        axes.set(yscale="log", xlabel="step", ylabel="loss", title=name)
        axes.legend()
    figure.savefig(path, dpi=_DPI)


def save_roc_curves(cases: Cases, path: Path) -> list[str]:
    """One line per class that has present and absent cases; returns the classes."""
    figure = Figure(figsize=(7.5, 6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    drawn = []
    for target in sorted(name.removeprefix("score ") for name in cases.figures if name.startswith("score ")):
        columns = cases.columns("auroc", target)
        if columns is None:
            continue
        known = columns[np.isfinite(columns).all(axis=1)]
        area = auroc(known) if len(known) else np.nan
        if not np.isfinite(area):
            continue
        false_positives, true_positives, _ = roc_curve(known[:, 1] > 0.5, known[:, 0])
        axes.plot(false_positives, true_positives, linewidth=1.2, label=f"{target} {area:.3f} (n {len(known)})")
        drawn.append(target)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC curves on frozen cases, with AUROC")
    if drawn:
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=_DPI)
    return drawn


def save_error_histogram(cases: Cases, path: Path) -> None:
    """Errors of tip, carina and their distance in mm; what was not located is the last bar."""
    named = [name for name in cases.figures if name.endswith(" error mm")]
    figure = Figure(figsize=(5 * max(1, len(named)), 3.8), layout="constrained")
    edges = np.append(np.arange(0.0, _LONGEST_MM + 0.1, 1.0), _LONGEST_MM + 3.0)
    for axes, name in zip(figure.subplots(1, max(1, len(named)), squeeze=False)[0], named, strict=False):
        values = cases.figures[name]
        values = values[np.isfinite(values)]
        missed = int((values >= NOT_LOCATED_MM).sum())
        axes.hist(values.clip(0, _LONGEST_MM + 1.5), bins=edges, color="steelblue")
        axes.set(xlabel="mm", ylabel="cases", title=f"{name}: n {len(values)}, not located {missed}")
        if len(values):
            axes.axvline(float(np.median(values)), color="darkorange", label=f"median {np.median(values):.1f} mm")
            axes.legend()
    figure.savefig(path, dpi=_DPI)
