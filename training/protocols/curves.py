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
        given = sorted({100 * score.share for score in mine})
        axes.set_xticks(given, [f"{share:g}" for share in given])
        axes.minorticks_off()
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=_DPI)


def comparison_table(comparison: Comparison) -> Table:
    """One line per score, with share and mean number of labels; a gain whose interval excludes 0 is bold."""
    table = Table(title=f"on test images, mean over {', '.join(comparison.targets)}")
    for heading in ("protocol", "backbone", "labels", "macro AUROC, 95 %", "less fresh weights, corrected 95 %"):
        table.add_column(heading, no_wrap=heading == "backbone")
    for score in comparison.scores:
        gain = "-"
        if score.gain is not None and score.gain_low is not None and score.gain_high is not None:
            sure = score.gain_low > 0 or score.gain_high < 0
            gain = f"{'[bold]' if sure else ''}{score.gain:+.3f} ({score.gain_low:+.3f} to {score.gain_high:+.3f})"
        given = score.across or (f"{score.share:.0%} x {score.draws}" if score.draws > 1 else f"{score.share:.0%}")
        table.add_row(
            score.protocol,
            score.contestant,
            f"{given}: {score.labelled:,}",
            f"{score.auroc:.3f} ({score.low:.3f} to {score.high:.3f})",
            gain,
        )
    return table
