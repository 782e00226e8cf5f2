"""Any bundle on real radiographs: `python -m benchmarks.real_images [--data FOLDER] [--bundle FOLDER]`.

The sources are curated as for training, with the same key, so that their test patients are those that no recipe learns
from. The figures are those that `chexnode train regenerate` states of a bundle whose sources were given.
"""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from schemas.bundle import bundle_folder
from training.curation.curate import curate
from training.curation.settings import CurationSettings
from training.evaluation.radiographs import evaluate_radiographs
from training.sources.catalogue import Named, open_folder
from workers.bundle import load_bundle
from workers.metrics_table import metrics_table

_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "cxr"
_SOURCES = (
    Named("kermany", "kermany", "kermany_v7_masks"),
    Named("nih", "nih", "nih_chestxray14_subset"),
    Named("covid-chestxray", "covid-chestxray", "ieee8023"),
)


def main() -> None:
    """Measure and print; nothing to measure without the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=_DATA, help="holds a folder per source")
    parser.add_argument("--bundle", type=Path, help="by default the one that is shipped")
    arguments = parser.parse_args()
    console = Console(width=150)
    here = [each for each in _SOURCES if (arguments.data / each.where).is_dir()]
    if not here:
        console.print(f"[yellow]skipped:[/] {arguments.data} has no folder of any source", highlight=False)
        return
    bundle = load_bundle(bundle_folder(arguments.bundle))
    sources = [open_folder(Named(each.kind, each.name, str(arguments.data / each.where))) for each in here]
    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        curation = curate(sources, CurationSettings(), Path(folder), progress)
        figures = evaluate_radiographs(bundle, curation, {each.name: each.kind for each in here}, progress)
    console.print(metrics_table(figures, f"{bundle.manifest.name} {bundle.manifest.version}"))


if __name__ == "__main__":
    main()
