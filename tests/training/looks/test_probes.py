"""A question to a bundle's features is held against what size and thumbnail of the films say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.bundle import Metric
from tests.support.looks import tiny_manifest
from training.evaluation.probes import Question, answer
from training.evaluation.radiograph import Picture, Radiograph
from training.sources.source import Sample
from workers.bundle import LoadedBundle
from workers.networks.network import build_network

_QUESTION = Question("pneumonia", "pneumonia", lungs_only=True)


@pytest.fixture(scope="module")
def bundle() -> LoadedBundle:
    torch.manual_seed(0)
    manifest = tiny_manifest(["pneumonia"])
    return LoadedBundle(manifest, "0" * 64, build_network(manifest).eval(), Path())


def _radiographs(first: int, count: int, *, size_tells: bool) -> list[Radiograph]:
    """Every other one has a light patch in its lungs, somewhere else in each crop, and perhaps a larger film."""
    made = []
    for number in range(first, first + count):
        rng, present = np.random.default_rng(number), number % 2 == 0
        crops = [_picture(rng, present) for _ in range(4)]
        side = 1000 + 300 * (present and size_tells) + int(rng.integers(0, 50))
        sample = Sample(
            source="drawn",
            key=str(number),
            patient=f"p{number // 2}",
            licence="CC0",
            read=lambda: np.zeros((1, 1), np.float32),
            labels={"pneumonia": float(present)},
            view="AP",
        )
        made.append(Radiograph(sample, side, 1000, _picture(rng, False), crops, None))
    return made


def _picture(rng: np.random.Generator, present: bool) -> Picture:
    placed = rng.integers(60, 120, (64, 64)).astype(np.uint8)
    if present:
        top, left = rng.integers(8, 32, 2)
        placed[top : top + 20, left : left + 20] = 230
    # What a thumbnail of noise says of it.
    return Picture(placed, rng.normal(size=64))


def _answered(bundle: LoadedBundle, *, size_tells: bool) -> dict[str, Metric]:
    learned, asked = (_radiographs(first, 60, size_tells=size_tells) for first in (0, 1000))
    return {each.name.removeprefix("AUROC pneumonia, "): each for each in answer(_QUESTION, bundle, learned, asked)}


def test_films_are_cases_however_many_crops_are_taken_of_each(bundle: LoadedBundle) -> None:
    figures = _answered(bundle, size_tells=False)
    assert {each.n for each in figures.values()} == {60}
    assert figures["probe of features"].value > 0.9
    assert figures["probe of features"].baseline == figures["8 x 8 thumbnail"].value < 0.75
    assert figures["features less thumbnail"].low > 0
    difference = figures["probe of features"].value - figures["size of the film alone"].value
    assert figures["features less size"].value == pytest.approx(difference)


def test_a_size_that_gives_the_answer_away_leaves_nothing_to_the_features(bundle: LoadedBundle) -> None:
    figures = _answered(bundle, size_tells=True)
    assert figures["size of the film alone"].value == 1.0
    assert figures["features less size"].value <= 0


def test_a_question_is_asked_of_those_alone_whose_answer_and_lungs_are_known() -> None:
    known = _radiographs(0, 2, size_tells=False)
    unknown = Radiograph(known[0].sample, 1, 1, known[0].whole, [], None)
    assert _QUESTION.asked_of([*known, unknown]) == known
    assert Question("", "pneumonia", view="PA").asked_of(known) == []
    assert _QUESTION.truth(known).tolist() == [1.0, 0.0]
