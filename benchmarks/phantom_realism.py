"""How well a small probe tells phantoms from real films: `python -m benchmarks.phantom_realism FOLDER [--count 300]`.

FOLDER holds nih_chestxray14_subset and kermany_v7_masks. Prints the AUROC (5-fold, patients kept apart) of a logistic
regression on each kind of feature, for the old and the new phantom; 0.5 cannot be told apart, 1.0 always.
"""

import argparse
import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.phantom.render import render_phantom
from training.phantom.truth import Family, View

Field = NDArray[np.float32]

#: Side of the square in which all are compared; films and phantoms come larger and go the same way there.
_SIDE = 256
_RENDERED = 384
#: As the films at hand were stored.
_JPEG_QUALITY = 82


@dataclass(frozen=True)
class _Films:
    name: str
    paths: list[Path]
    patients: list[str]
    render: Callable[[int], Field]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    arguments = parser.parse_args()
    console = Console(width=110)
    table = Table("films", "n", "phantom", *(_FEATURES), "all", title="AUROC: phantom against film")
    with Progress(console=console, transient=True) as progress:
        for films in _sources(arguments.folder):
            order = np.random.default_rng(0).permutation(len(films.paths))[: arguments.count]
            real = [_stored(_read(films.paths[i])) for i in progress.track(order, description=films.name)]
            patients = [films.patients[i] for i in order]
            seeds = progress.track(range(len(real)), description="phantoms")
            phantoms = [_stored(films.render(seed)) for seed in seeds]
            scores = probe(real, patients, phantoms)
            table.add_row(films.name, str(len(real)), *(f"{score:.3f}" for score in scores))
    console.print(table)


def probe(real: list[Field], patients: list[str], phantoms: list[Field]) -> list[float]:
    """AUROC by each kind of feature and by all together; images are float32 [256, 256] in 0..1."""
    images = [*real, *phantoms]
    groups = [*patients, *(f"phantom {number}" for number in range(len(phantoms)))]
    truth = np.repeat([0, 1], [len(real), len(phantoms)])
    blocks = [np.stack([extract(image) for image in images]) for extract in _FEATURES.values()]
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    scores = []
    for block in [*blocks, np.concatenate(blocks, axis=1)]:
        said = cross_val_predict(model, block, truth, groups=groups, cv=folds, method="predict_proba")[:, 1]
        scores.append(float(roc_auc_score(truth, said)))
    return scores


def _sources(folder: Path) -> list[_Films]:
    with (folder / "nih_chestxray14_subset" / "labels.csv").open(encoding="utf-8") as lines:
        adults = [row for row in csv.DictReader(lines) if row["view"] in ("PA", "AP")]
    with (folder / "kermany_v7_masks" / "labels.csv").open(encoding="utf-8") as lines:
        children = list(csv.DictReader(lines))
    return [
        _Films(
            "nih",
            [folder / "nih_chestxray14_subset" / row["file"] for row in adults],
            [row["patient_id"] for row in adults],
            lambda seed: _adult(seed, View.PA if seed % 5 < 3 else View.AP),
        ),
        _Films(
            "kermany",
            [folder / "kermany_v7_masks" / row["file"] for row in children],
            [Path(row["file"]).stem.split("_")[0] for row in children],
            _child,
        ),
    ]


def _adult(seed: int, view: View) -> Field:
    age = float(np.clip(np.random.default_rng(seed).normal(47, 16), 16, 90))
    return render_phantom(seed, _RENDERED, _RENDERED, view=view, age_years=age, masks=False).image


def _child(seed: int) -> Field:
    rng = np.random.default_rng(seed)
    rows = round(_RENDERED * rng.uniform(0.62, 0.95))
    age = float(rng.uniform(1, 5))
    return render_phantom(seed, rows, _RENDERED, family=Family.TRAINING, view=View.AP, age_years=age, masks=False).image


def _read(path: Path) -> Field:
    return np.asarray(Image.open(path).convert("L"), dtype=np.float32) / np.float32(255)


def _stored(image: Field) -> Field:
    """As the films are stored: shrunk to a square, 8 bits, JPEG."""
    picture = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side)).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return np.asarray(Image.open(buffer), dtype=np.float32) / np.float32(255)


def _thumbnail(image: Field) -> Field:
    return np.asarray(image.reshape(8, _SIDE // 8, 8, _SIDE // 8).mean(axis=(1, 3)).ravel())


def _histogram(image: Field) -> Field:
    counts, _ = np.histogram(image, bins=16, range=(0, 1))
    return np.log(counts / image.size + 1e-3).astype(np.float32)


def _spectrum(image: Field) -> Field:
    """Logarithm of the power by radial frequency, 24 bands, with a window against the edges."""
    window = np.outer(np.hanning(_SIDE), np.hanning(_SIDE))
    power = np.abs(np.fft.rfft2((image - image.mean()) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None, :])
    band = np.minimum((radius * 48).astype(int), 23)
    total = np.bincount(band.ravel(), power.ravel(), minlength=24) / np.bincount(band.ravel(), minlength=24)
    return np.log(total + 1e-6).astype(np.float32)


_FEATURES: dict[str, Callable[[Field], Field]] = {
    "thumbnail": _thumbnail,
    "histogram": _histogram,
    "spectrum": _spectrum,
}

if __name__ == "__main__":
    main()
