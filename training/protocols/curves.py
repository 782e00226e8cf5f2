"""Curves and table of a comparison: score against share of the labels. Called by `chexnode train compare`."""

from pathlib import Path

from matplotlib.figure import Figure
from rich.table import Table

from training.protocols.compare import Comparison

_DPI = 110


def save_curves(comparison: Comparison, path: Path) -> None:
    """One panel per protocol, one line per contestant, its interval as a band."""
    protocols = list(dict.fromkeys(score.protocol for score in comparison.scores))
    figure = Figure(figsize=(6 * max(1, len(protocols)), 4.5), layout="constrained")
    panels = figure.subplots(1, max(1, len(protocols)), squeeze=False)[0]
    for axes, protocol in zip(panels, protocols, strict=False):
        mine = [score for score in comparison.scores if score.protocol == protocol and not score.across]
        for name in dict.fromkeys(score.contestant for score in mine):
            line = sorted((score for score in mine if score.contestant == name), key=lambda score: score.share)
            shares = [100 * score.share for score in line]
            axes.plot(shares, [score.auroc for score in line], marker="o", label=name)
            axes.fill_between(shares, [score.low for score in line], [score.high for score in line], alpha=0.15)
        axes.set(xscale="log", xlabel="labels given, % of patients", ylabel="macro AUROC, test images", title=protocol)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=_DPI)


def comparison_table(comparison: Comparison) -> Table:
    """One line per score; a gain whose interval excludes 0 is bold."""
    table = Table("protocol", "backbone", "labels", "n", "macro AUROC", "95 %", "less fresh weights", "corrected 95 %")
    table.title = f"on test images, mean over {', '.join(comparison.targets)}"
    for score in comparison.scores:
        gain = interval = "-"
        if score.gain is not None and score.gain_low is not None and score.gain_high is not None:
            bold = score.gain_low > 0 or score.gain_high < 0
            gain = f"[bold]{score.gain:+.3f}[/]" if bold else f"{score.gain:+.3f}"
            interval = f"{score.gain_low:+.3f} to {score.gain_high:+.3f}"
        given = f"{score.share:.0%}, {score.draws} draws" if not score.across else score.across
        table.add_row(
            *(score.protocol, score.contestant, given, f"{score.labelled:,}", f"{score.auroc:.3f}"),
            *(f"{score.low:.3f} to {score.high:.3f}", gain, interval),
        )
    return table
