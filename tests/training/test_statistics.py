import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from schemas.bundle import Metric
from training.evaluation.statistics import auroc, auroc_metric, mean, metric, share


@given(st.integers(0, 1000))
def test_auroc_agrees_with_scikit_learn_also_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 30)
    truth[:2] = 0, 1
    scores = rng.integers(0, 6, 30) / 5
    assert auroc(np.stack([scores, truth], axis=1)) == pytest.approx(roc_auc_score(truth, scores))


def test_the_interval_holds_the_figure_and_n() -> None:
    figure = metric("m", np.random.default_rng(0).normal(5, 1, 400), mean)
    assert figure.low < figure.value < figure.high
    assert figure.high - figure.low == pytest.approx(4 * 1 / 20, rel=0.2)
    assert figure.n == 400


def test_a_share_of_all_or_none_still_has_an_interval() -> None:
    # Of 10 cases without a failure: Clopper and Pearson's 95 % interval from 0.05 ** (1 / 10) at 97.5 %.
    all_right = share("refused", np.ones(10, np.bool_))
    assert (all_right.value, all_right.high) == (1.0, 1.0)
    assert all_right.low == pytest.approx(0.6915, abs=1e-3)
    none = share("refused", np.zeros(10, np.bool_))
    assert none.high == pytest.approx(1 - 0.6915, abs=1e-3)
    assert none.low == 0
    # Ten images of one patient prove what one does.
    assert share("refused", np.ones(10, np.bool_), np.zeros(10)).low == pytest.approx(0.025)
    some = share("refused", np.arange(10) < 7)
    assert some.low < 0.7 < some.high


def test_scores_that_separate_completely_prove_more_the_more_patients_there_are() -> None:
    def separated(patients: int) -> Metric:
        truth = np.repeat([0.0, 1.0], patients)
        return auroc_metric("m", np.stack([truth, truth], axis=1))

    # Newcombe's equation at 20 and 20: 1 - low = 1.96 sqrt(low (1 - low) / 400 (1 + 19 (1 - low) / (2 - low) + ...)).
    assert separated(20).low == pytest.approx(0.8987, abs=1e-3)
    assert separated(20).high == separated(20).value == 1.0
    assert separated(20).low < separated(60).low < 1


def test_images_of_one_patient_do_not_narrow_the_interval() -> None:
    truth = np.repeat([0.0, 1.0], 40)
    rows = np.stack([truth, truth], axis=1)
    assert auroc_metric("m", rows, np.arange(80) // 10).low < auroc_metric("m", rows).low


def test_in_the_middle_the_interval_is_the_resampled_one_or_little_wider() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(300) < 0.5).astype(float)
    rows = np.stack([truth + rng.normal(0, 1, 300), truth], axis=1)
    plain, wide = metric("m", rows, auroc), auroc_metric("m", rows)
    assert wide.low <= plain.low < plain.value < plain.high <= wide.high
    assert wide.high - wide.low < 1.25 * (plain.high - plain.low)
