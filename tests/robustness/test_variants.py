"""The same film, stored otherwise, gives the same result: through the node's own reading, network and interpretation.

Distributions over many phantoms, and what does not hold: docs/robustness.md, `python -m benchmarks.robustness`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from schemas.bundle import bundle_folder
from tests.support.phantoms import Tube, phantom
from tests.support.rereading import Change, Reading, change, read
from tests.support.variants import ORIGINAL, VARIANTS, Variant
from training.phantom.truth import Phantom
from workers.bundle import LoadedBundle, load_bundle

#: What another way of storing may change.
SCORE, TIP_MM = 0.05, 2.0
#: None of the first three has a score at its operating point: there the least change decides otherwise. How often that
#: is so is measured, not tested (docs/robustness.md).
_FILMS: tuple[tuple[int, Tube], ...] = (
    (9_100_008, "well-placed"),
    (9_100_006, "malpositioned"),
    (9_100_002, "any"),
    (9_100_003, "well-placed"),
    (9_100_004, "malpositioned"),
)
_BY_NAME = {variant.name: variant for variant in VARIANTS}
_WINDOWS = [name for name in _BY_NAME if name.startswith("window")]
_TURNED = [name for name in _BY_NAME if name.startswith("turned")]
_STORED = [name for name in _BY_NAME if name not in {*_WINDOWS, *_TURNED}]


@dataclass(frozen=True)
class _Read:
    film: Phantom
    original: Reading


@pytest.fixture(scope="module")
def bundle() -> LoadedBundle:
    return load_bundle(bundle_folder(None))


@pytest.fixture(scope="module")
def films(bundle: LoadedBundle, tmp_path_factory: pytest.TempPathFactory) -> list[_Read]:
    folder = tmp_path_factory.mktemp("original")
    made = [phantom(seed, tube, 512, 448) for seed, tube in _FILMS]
    return [_Read(film, read(bundle, film, ORIGINAL, folder)) for film in made]


def changes(bundle: LoadedBundle, films: list[_Read], variant: Variant, folder: Path) -> list[Change]:
    return [change(bundle, each.film, each.original, variant, folder) for each in films]


@pytest.mark.parametrize("name", _STORED)
def test_how_a_film_is_stored_changes_no_score_no_tip_and_no_decision(
    name: str, bundle: LoadedBundle, films: list[_Read], tmp_path: Path
) -> None:
    found = changes(bundle, films[:3], _BY_NAME[name], tmp_path)
    assert np.max([each.scores for each in found]) <= SCORE
    assert not any(each.tip_lost_or_gained or each.decisions for each in found)
    tips = [each.tip_mm for each in found if np.isfinite(each.tip_mm)]
    assert len(tips) >= 2
    assert max(tips) <= TIP_MM


@pytest.mark.parametrize(
    ("names", "within", "score", "tip_mm"),
    [(_WINDOWS, 0.97, 0.25, 2.0), (_TURNED, 0.9, 0.45, 3.5)],
    ids=["another window", "turned"],
)
def test_another_window_and_a_turned_film_change_most_scores_and_tips_as_little(
    names: list[str],
    within: float,
    score: float,
    tip_mm: float,
    bundle: LoadedBundle,
    films: list[_Read],
    tmp_path: Path,
) -> None:
    """The limits do not hold for every film.

    Of 60 phantoms another window changes 1 to 3 % of the scores by more, a turn by 5 degrees 9 %, and there 22 % of the
    tips lie more than 2 mm away (docs/robustness.md). What is asserted is what these five films give, with some room.
    """
    found = [each for name in names for each in changes(bundle, films, _BY_NAME[name], tmp_path)]
    scores = np.concatenate([each.scores for each in found])
    assert np.mean(scores <= SCORE) >= within
    assert scores.max() <= score
    tips = np.array([each.tip_mm for each in found if np.isfinite(each.tip_mm)])
    assert len(tips) >= 0.8 * len(found)
    assert np.median(tips) <= TIP_MM
    assert tips.max() <= tip_mm
