"""A bundle on real radiographs: `python -m benchmarks.real_images [--data FOLDER] [--bundle FOLDER]`.

The sources are curated as for training, with the same key, so that their test patients are those that no recipe learns
from. Lungs by Dice; pneumonia, its cause and the view by a small probe on the bundle's features, beside what the size
of the film and an 8 x 8 thumbnail say. Tubes: presence among AP films only, because the view alone half gives it away.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from schemas.bundle import Metric, bundle_folder
from schemas.errors import SourceError
from training.curation.curate import Curation, curate
from training.curation.settings import CurationSettings
from training.evaluation.radiographs import Question, answer, lung_dice
from training.sources.catalogue import Named, open_folder
from training.sources.source import Sample
from workers.bundle import LoadedBundle, load_bundle
from workers.metrics_table import metrics_table

_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "cxr"
_SOURCES = (
    Named("kermany", "kermany", "kermany_v7_masks"),
    Named("nih", "nih", "nih_chestxray14_subset"),
    Named("covid-chestxray", "covid-chestxray", "ieee8023"),
)
_QUESTIONS = (
    ("kermany", Question("pneumonia, kermany, lung box", "pneumonia", lungs_only=True)),
    ("kermany", Question("bacterial against viral, kermany, lung box", "pneumonia.bacterial", lungs_only=True)),
    ("nih", Question("AP against PA, nih", "view.ap")),
    ("covid-chestxray", Question("tube among AP, ieee8023", "endotracheal_tube.presence")),
)


def main() -> None:
    """Measure and print; nothing to measure without the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=_DATA, help="holds a folder per source")
    parser.add_argument("--bundle", type=Path, help="by default the one that is shipped")
    arguments = parser.parse_args()
    console = Console(width=140)
    here = [each for each in _SOURCES if (arguments.data / each.where).is_dir()]
    if not here:
        console.print(f"[yellow]skipped:[/] {arguments.data} has no folder of any source", highlight=False)
        return
    bundle = load_bundle(bundle_folder(arguments.bundle))
    sources = [open_folder(Named(each.kind, each.name, str(arguments.data / each.where))) for each in here]
    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        curation = curate(sources, CurationSettings(), Path(folder), progress)
        figures = measure(bundle, curation, progress)
    console.print(metrics_table(figures, f"{bundle.manifest.name} {bundle.manifest.version} on test patients"))


def measure(bundle: LoadedBundle, curation: Curation, progress: Progress) -> list[Metric]:
    """All figures of the sources that are there. The probes are fitted on those that training may learn from."""
    learning, test = (*curation.part("train"), *curation.part("val")), curation.part("test")
    figures = lung_dice(bundle.network, bundle.manifest, test, progress)
    for source, question in _QUESTIONS:
        taught, asked = (_asked(question, source, samples) for samples in (learning, test))
        if _both_kinds(question, taught) and _both_kinds(question, asked):
            figures += answer(question, bundle.network, bundle.manifest, taught, asked, progress)
    if not figures:
        raise SourceError("No source has lung masks or labels of both kinds: nothing to measure.")
    return figures


def _asked(question: Question, source: str, samples: Sequence[Sample]) -> list[Sample]:
    chosen = [each for each in samples if each.source == source and question.target in each.labels]
    if question.target == "endotracheal_tube.presence":
        return [each for each in chosen if each.view == "AP"]
    return chosen


def _both_kinds(question: Question, samples: Sequence[Sample]) -> bool:
    return len({sample.labels[question.target] > 0.5 for sample in samples}) == 2


if __name__ == "__main__":
    main()
