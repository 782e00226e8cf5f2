"""Evaluation of a bundle with two looks on frozen phantoms, with pictures; called by look_making.py."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import Progress

from training.evaluation.cases import Cases
from training.evaluation.films import PhantomFilm
from training.evaluation.phantoms import PhantomBaseline, evaluate_phantoms, phantom_cases
from training.evaluation.reading import PhantomReading, read_phantoms
from training.evaluation.refusals import evaluate_refusals, read_others
from training.examples.store import Examples
from training.regeneration.look_pictures import save_predictions
from training.regeneration.making import Evaluated
from workers.bundle import LoadedBundle
from workers.interpret import Interpretation

_PICTURED = 12


def evaluate_looks(
    bundle: LoadedBundle, seeds: Sequence[int], learned: Examples, folder: Path, progress: Progress
) -> Evaluated:
    """Figures and cases; pictures of the first phantoms and of the worst go to `folder`.

    Parameters
    ----------
    learned : examples that the network learned from; the baseline is fitted on all of them, as the network was
    """
    first: list[tuple[PhantomFilm, Interpretation]] = []
    readings: list[PhantomReading] = []
    for film, said, reading in read_phantoms(bundle.network, bundle.manifest, seeds, progress):
        readings.append(reading)
        if len(first) < _PICTURED:
            first.append((film, said))
    cases = phantom_cases(readings)
    save_predictions(first, folder / "1 samples, found (lines, crosses) and drawn (circles).png")
    again = read_phantoms(bundle.network, bundle.manifest, _worst(cases), progress)
    save_predictions([(film, said) for film, said, _ in again], folder / "2 worst cases.png")
    baseline = PhantomBaseline(learned)
    # A fifth as many images that are none: whether they are refused needs fewer cases than millimetres do.
    others = list(read_others(bundle.network, bundle.manifest, seeds[: max(10, len(seeds) // 5)], progress))
    return Evaluated(cases, [*evaluate_phantoms(readings, baseline), *evaluate_refusals(others)])


def read_cases(bundle: LoadedBundle, seeds: Sequence[int], progress: Progress) -> Cases:
    """What a bundle says of the frozen phantoms."""
    return phantom_cases([reading for _, _, reading in read_phantoms(bundle.network, bundle.manifest, seeds, progress)])


def _worst(cases: Cases) -> list[int]:
    """Seeds with the greatest errors of the tube's tip, then those with the poorest outlines."""
    tips = np.nan_to_num(cases.figures["tube tip error mm"], nan=-1.0)
    lungs = [cases.figures[name] for name in ("Dice right_lung", "Dice left_lung") if name in cases.figures]
    dice = np.nan_to_num(np.mean(lungs, axis=0), nan=1.0) if lungs else np.ones(len(cases))
    half = _PICTURED // 2
    rows = dict.fromkeys(int(row) for row in [*np.argsort(-tips)[:half], *np.argsort(dice)[:half]])
    return [int(cases.names[row].split()[-1]) for row in rows]
