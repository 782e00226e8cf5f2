"""The gate lets pass what is as good and refuses what is worse, on figures as noisy as those of real bundles."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.gate import disturbed, shifted
from schemas.codes import Landmark
from schemas.errors import BundleMakingError
from tests.support.bundles import write_looking_bundle
from training.evaluation.cases import NOT_LOCATED_MM, Cases
from training.regeneration.gate import GateRules, PrimaryMetric, judge
from workers.bundle import load_bundle

COUNT = 500
RULES = GateRules(
    metrics=[
        PrimaryMetric(
            statistic="auroc", figure="endotracheal_tube.malposition", better="higher", margin=0.04, limit=0.85
        ),
        PrimaryMetric(statistic="auroc", figure="pleural_effusion", better="higher", margin=0.04, limit=0.85),
        PrimaryMetric(statistic="median", figure="tube tip error mm", better="lower", margin=1.5, limit=6.0),
        PrimaryMetric(statistic="percentile_95", figure="tube tip error mm", better="lower", margin=10.0, limit=30.0),
        PrimaryMetric(statistic="mean", figure="Dice right_lung", better="higher", margin=0.01, limit=0.9),
        PrimaryMetric(statistic="mean", figure="Dice left_lung", better="higher", margin=0.01, limit=0.9),
    ]
)
NAMES = "new", "old"


def cases(bundle: int, draw: int = 0) -> Cases:
    """What a bundle that is as good as any other says of frozen cases, two of each patient.

    How hard each case is depends on `draw` alone, and so do the truth and whose it is.
    """
    hard = np.random.default_rng(draw)
    own = np.random.default_rng([draw, bundle])
    figures: dict[str, NDArray[np.float64]] = {}
    tube = hard.random(COUNT) < 0.6
    for target, applies in (("endotracheal_tube.malposition", tube), ("pleural_effusion", np.ones(COUNT, np.bool_))):
        truth = (hard.random(COUNT) < 0.4).astype(np.float64)
        logit = 3.2 * (truth - 0.5) + hard.normal(0, 0.9, COUNT) + own.normal(0, 0.5, COUNT)
        figures[f"score {target}"] = 1 / (1 + np.exp(-logit))
        figures[f"truth {target}"] = np.where(applies, truth, np.nan)
    error = np.exp(hard.normal(0.9, 0.5, COUNT) + own.normal(0, 0.5, COUNT))
    figures["tube tip error mm"] = np.where(tube, error, np.nan)
    for side in ("right_lung", "left_lung"):
        figures[f"Dice {side}"] = 1 - np.exp(hard.normal(-3.4, 0.4, COUNT) + own.normal(0, 0.3, COUNT))
    return Cases(
        names=tuple(f"case {index}" for index in range(COUNT)),
        patients=tuple(f"patient {index // 2}" for index in range(COUNT)),
        figures=figures,
        groups={},
    )


def changed(these: Cases, **figures: NDArray[np.float64]) -> Cases:
    return Cases(these.names, these.patients, {**these.figures, **figures}, these.groups)


def test_bundles_that_are_as_good_as_the_active_one_pass() -> None:
    verdicts = [judge(RULES, cases(1, draw), cases(2, draw), NAMES) for draw in range(10)]
    assert sum(verdict.passed for verdict in verdicts) >= 9, [verdict.reasons for verdict in verdicts]


def test_the_active_bundle_itself_passes() -> None:
    verdict = judge(RULES, cases(1), cases(1), NAMES)
    assert verdict.passed and verdict.reasons == []
    assert all(each.difference == each.difference_bound == 0 for each in verdict.metrics)


def test_tips_that_lie_10_mm_off_are_refused_with_the_reason() -> None:
    good = cases(1)
    verdict = judge(RULES, changed(good, **{"tube tip error mm": good.figures["tube tip error mm"] + 10}), good, NAMES)
    assert not verdict.passed
    assert any(
        "median tube tip error mm" in reason and "higher than the active" in reason for reason in verdict.reasons
    )


def test_labels_shuffled_in_a_fifth_of_the_cases_are_refused() -> None:
    good = cases(1)
    rng = np.random.default_rng(0)
    score = good.figures["score pleural_effusion"].copy()
    fifth = rng.permutation(COUNT)[: COUNT // 5]
    score[fifth] = score[rng.permutation(fifth)]
    verdict = judge(RULES, changed(good, **{"score pleural_effusion": score}), good, NAMES)
    assert not verdict.passed
    assert all(reason.startswith("AUROC pleural_effusion") for reason in verdict.reasons)


def test_lungs_with_left_and_right_swapped_are_refused() -> None:
    good = cases(1)
    nothing = np.zeros(COUNT)
    verdict = judge(RULES, changed(good, **{"Dice right_lung": nothing, "Dice left_lung": nothing}), good, NAMES)
    assert {each.metric.figure for each in verdict.metrics if each.against} == {"Dice right_lung", "Dice left_lung"}


def test_a_bundle_gains_nothing_by_not_locating_what_is_hard() -> None:
    good = cases(1)
    error = good.figures["tube tip error mm"]
    silent = np.where(error > np.nanpercentile(error, 85), NOT_LOCATED_MM, error)
    assert not judge(RULES, changed(good, **{"tube tip error mm": silent}), good, NAMES).passed


def test_as_good_as_a_poor_active_bundle_is_not_good_enough() -> None:
    good = cases(1)
    poor = changed(good, **{"tube tip error mm": good.figures["tube tip error mm"] + 10})
    verdict = judge(RULES, poor, poor, NAMES)
    assert any("at most 6" in reason for reason in verdict.reasons)
    assert not any("active" in reason for reason in verdict.reasons)


def test_without_an_active_bundle_only_limits_are_checked_and_it_says_so() -> None:
    verdict = judge(RULES, cases(1), None, ("new", None))
    assert verdict.passed
    assert {each.not_compared for each in verdict.metrics} == {"no bundle is active"}


def test_what_the_active_bundle_does_not_answer_is_checked_by_its_limit_alone() -> None:
    other = cases(2)
    fewer = {name: values for name, values in other.figures.items() if "effusion" not in name}
    verdict = judge(RULES, cases(1), Cases(other.names, other.patients, fewer, {}), NAMES)
    assert verdict.passed
    assert [each.metric.figure for each in verdict.metrics if each.not_compared] == ["pleural_effusion"]


def test_a_bundle_that_does_not_answer_a_primary_metric_is_refused() -> None:
    whole = cases(1)
    fewer = {name: values for name, values in whole.figures.items() if name != "Dice left_lung"}
    verdict = judge(RULES, Cases(whole.names, whole.patients, fewer, {}), whole, NAMES)
    assert verdict.reasons == ["mean Dice left_lung: the candidate says nothing of it"]


def test_a_bundle_that_is_silent_about_cases_that_the_active_one_answers_is_refused() -> None:
    whole = cases(1)
    dice = whole.figures["Dice left_lung"].copy()
    dice[:7] = np.nan
    verdict = judge(RULES, changed(whole, **{"Dice left_lung": dice}), whole, NAMES)
    assert verdict.reasons == ["mean Dice left_lung: it says nothing of 7 cases that the active bundle answers"]
    assert judge(RULES, whole, changed(whole, **{"Dice left_lung": dice}), NAMES).passed


def test_few_patients_prove_less_than_as_many_cases_of_different_ones() -> None:
    apart, rule = cases(1), [RULES.metrics[4]]
    together = Cases(apart.names, tuple(f"patient {index // 50}" for index in range(COUNT)), apart.figures, {})
    bounds = [
        judge(GateRules(metrics=rule), each, None, ("new", None)).metrics[0].candidate_bound or 0.0
        for each in (
            apart,
            changed(together, **{"Dice right_lung": np.repeat(apart.figures["Dice right_lung"][:10], 50)}),
        )
    ]
    assert bounds[1] < bounds[0]


def test_bundles_that_read_other_cases_cannot_be_compared() -> None:
    other = cases(2)
    renamed = Cases(tuple(reversed(other.names)), other.patients, other.figures, {})
    with pytest.raises(BundleMakingError, match="same frozen cases"):
        judge(RULES, cases(1), renamed, NAMES)


def test_sabotage_of_tips_reaches_the_second_look_which_would_put_them_right(tmp_path: Path) -> None:
    bundle = load_bundle(write_looking_bundle(tmp_path / "looking"))
    head, second = bundle.manifest.second_look, bundle.network.second_look
    assert head is not None and second is not None
    crops = torch.rand(1, 1, head.crop, head.crop, generator=torch.Generator().manual_seed(0))
    tip = head.channels.index(Landmark.ENDOTRACHEAL_TUBE_TIP)
    with torch.inference_mode():
        with disturbed(bundle, 1, None):
            good = second(crops)
        with disturbed(bundle, 1, shifted(bundle)):
            bad = second(crops)
        alone = second(crops)
    # 10 mm of a film of 400 mm in 192 pixels, 4 to a cell.
    assert torch.equal(bad[:, tip], torch.roll(good[:, tip], 1, dims=1))
    assert not torch.equal(bad[:, tip], good[:, tip])
    # Noise, by which bundles that are as good differ; and nothing stays behind.
    assert 0 < (good - alone).abs().max() < 1
