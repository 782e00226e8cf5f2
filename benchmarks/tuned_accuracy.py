"""What the tuned engine costs in accuracy: `python -m benchmarks.tuned_accuracy [--images 300] [--bundle FOLDER]`.

Phantoms through the chosen engine (or, with --engine, another one) and through eager float32: Spearman's correlation
per class and decisions that flip at the operating points.
"""

import argparse
from pathlib import Path

# As in an engine process; read when torch is imported.
import workers.engine_preload

assert workers.engine_preload

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from rich.table import Table  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402

from schemas.bundle import bundle_folder  # noqa: E402
from schemas.tuning import REFERENCE, EngineChoice  # noqa: E402
from training.evaluation.films import phantom_films  # noqa: E402
from workers.backends.choice import load_chosen, make_backend  # noqa: E402
from workers.bundle import load_bundle  # noqa: E402
from workers.calibration import class_scores  # noqa: E402
from workers.devices import available_cores  # noqa: E402

#: Phantoms that neither training nor its evaluation has drawn.
_FIRST_SEED = 50_000_000


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--engine", help='for example "openvino bfloat16"; default: the tuned choice')
    arguments = parser.parse_args()
    console = Console(width=110)
    torch.set_num_threads(available_cores())
    folder = bundle_folder(arguments.bundle)
    loaded = load_bundle(folder)
    if arguments.engine:
        name, precision = arguments.engine.split()
        choice = EngineChoice.model_validate({"name": name, "precision": precision})
        chosen = make_backend(load_bundle(folder), choice, "cpu", 1)
    else:
        chosen = load_chosen(folder, "cpu", 1).backend
    exact = make_backend(loaded, REFERENCE, "cpu", 1)
    manifest = loaded.manifest
    scores: list[NDArray[np.float64]] = []
    seeds = range(_FIRST_SEED, _FIRST_SEED + arguments.images)
    films = phantom_films(seeds, manifest)
    for film in track(films, "phantoms", total=len(seeds), console=console, transient=True):
        placed = film.seen.image[None].astype(np.float32) / np.float32(255)
        logits = np.stack([backend.launch(placed)().logits[0] for backend in (exact, chosen)])
        scores.append(class_scores(logits, manifest.classes))
    values = np.stack(scores)  # [images, 2, classes]
    table = Table("class", "Spearman", "greatest difference", "flipped at the operating point")
    correlations, flipped, decided = [], 0, 0
    for index, scored in enumerate(manifest.classes):
        reference, ours = values[:, 0, index], values[:, 1, index]
        correlations.append(float(spearmanr(reference, ours).statistic))
        flips = "-"
        if scored.operating_point is not None:
            count = int(((reference >= scored.operating_point) != (ours >= scored.operating_point)).sum())
            flipped, decided, flips = flipped + count, decided + len(values), str(count)
        table.add_row(scored.target, f"{correlations[-1]:.5f}", f"{np.abs(ours - reference).max():.4f}", flips)
    console.print(table)
    console.print(
        f"{chosen.name} {chosen.precision} against eager float32, {len(values)} phantoms: least Spearman "
        f"{min(correlations):.5f} (aim 0.99), {flipped} of {decided} decisions flipped, {flipped / decided:.2%} "
        "(aim: at most 0.5 %)"
    )


if __name__ == "__main__":
    main()
