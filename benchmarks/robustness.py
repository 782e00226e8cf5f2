"""The same films stored otherwise: `python -m benchmarks.robustness [--phantoms 60] [--bundle FOLDER]`.

Each phantom is written as a DICOM file in every way of tests/support/variants.py, read and interpreted by the node's
own code, and compared with its plain form: how much scores change, how far the tube's tip moves on the film, and how
often something is called otherwise.
"""

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from schemas.bundle import bundle_folder
from tests.support.rereading import Change, change, read
from tests.support.variants import ORIGINAL, VARIANTS
from training.examples.phantoms import FILM_SIDE
from training.phantom.render import render_phantom
from training.phantom.truth import Family
from training.rendering import film_size
from workers.bundle import load_bundle

#: What a change may be: a score, and millimetres of the tip.
SCORE, TIP_MM = 0.05, 2.0
#: Beyond the seeds of every recipe.
_FIRST_SEED = 9_000_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantoms", type=int, default=60)
    parser.add_argument("--bundle", type=Path, help="by default the one that is shipped")
    arguments = parser.parse_args()
    console = Console(width=140)
    bundle = load_bundle(bundle_folder(arguments.bundle))
    changes: dict[str, list[Change]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = range(_FIRST_SEED, _FIRST_SEED + arguments.phantoms)
        for seed in track(seeds, "phantoms", console=console, transient=True):
            phantom = render_phantom(seed, *film_size(seed, FILM_SIDE), family=Family.FROZEN, masks=False)
            original = read(bundle, phantom, ORIGINAL, folder)
            for variant in VARIANTS:
                changes[variant.name].append(change(bundle, phantom, original, variant, folder))
    console.print(_table(changes, f"{bundle.manifest.name} {bundle.manifest.version}, {arguments.phantoms} phantoms"))


def _table(changes: dict[str, list[Change]], title: str) -> Table:
    table = Table("variant", title=title)
    for heading in (
        "score change\nmedian",
        "95th\npercentile",
        "maximum",
        f"scores\n> {SCORE}",
        "tips",
        "tip mm\nmedian",
        "maximum",
        f"tips\n> {TIP_MM:g} mm",
        "lost,\ngained",
        "called\notherwise",
    ):
        table.add_column(heading, justify="right")
    for name, each in changes.items():
        scores = np.concatenate([one.scores for one in each])
        tips = np.array([one.tip_mm for one in each])
        tips = tips[np.isfinite(tips)]
        far = (
            [f"{np.median(tips):.2f}", f"{tips.max():.2f}", f"{np.mean(tips > TIP_MM):.1%}"] if len(tips) else ["-"] * 3
        )
        table.add_row(
            name,
            f"{np.median(scores):.4f}",
            f"{np.percentile(scores, 95):.3f}",
            f"{scores.max():.3f}",
            f"{np.mean(scores > SCORE):.1%}",
            str(len(tips)),
            *far,
            str(sum(one.tip_lost_or_gained for one in each)),
            str(sum(one.decisions for one in each)),
        )
    return table


if __name__ == "__main__":
    main()
