from itertools import islice

import numpy as np
import pytest

from schemas.codes import Finding
from schemas.errors import SettingsError
from training.examples.mixture import Mixture, Part
from training.examples.store import Examples


def test_a_batch_at_a_step_is_the_same_however_training_got_there(examples: Examples) -> None:
    mixture = Mixture([Part("one", examples.rows(slice(0, 20)), 2.0), Part("two", examples.rows(slice(20, 48)))])
    whole = [each.images for each in islice(mixture.batches(6, seed=3), 8)]
    later = [each.images for each in islice(mixture.batches(6, seed=3, start=5), 3)]
    assert all(np.array_equal(*each) for each in zip(whole[5:], later, strict=True))
    other = next(mixture.batches(6, seed=4)).images
    assert not np.array_equal(whole[0], other)


def test_each_example_comes_once_per_round(examples: Examples) -> None:
    mixture = Mixture([Part("all", examples.rows(slice(0, 16)))])
    drawn = np.concatenate([each.images.sum(axis=(1, 2)) for each in islice(mixture.batches(4, seed=0), 4)])
    assert sorted(drawn) == sorted(examples.images[:16].sum(axis=(1, 2)))


def test_parts_are_drawn_by_their_weight(examples: Examples) -> None:
    few, many = examples.rows(slice(0, 4)), examples.rows(slice(4, 48))
    mixture = Mixture([Part("few", few, 3.0), Part("many", many, 1.0)])
    sums = set(few.images.sum(axis=(1, 2)).tolist())
    drawn = np.concatenate([each.images.sum(axis=(1, 2)) for each in islice(mixture.batches(8, seed=0), 50)])
    assert np.mean([value in sums for value in drawn.tolist()]) == pytest.approx(0.75, abs=0.07)


def test_a_class_is_taught_by_enough_cases_of_either_kind(examples: Examples) -> None:
    taught = Mixture([Part("drawings", examples)]).taught()
    assert Finding.PLEURAL_EFFUSION.value in taught
    assert Finding.NODULE.value not in taught
    # Every drawing is a frontal chest: nothing to tell it from.
    assert "acceptance.frontal_chest" not in taught
    assert Mixture([Part("drawings", examples.rows(slice(0, 10)))]).taught() == []


def test_shares_of_present_follow_the_weights(examples: Examples) -> None:
    with_tube, without = examples.rows(np.arange(0, 48, 2)), examples.rows(np.arange(1, 48, 2))
    mixture = Mixture([Part("tubes", with_tube, 3.0), Part("none", without, 1.0)])
    assert mixture.present_shares(["endotracheal_tube.presence"])[0] == pytest.approx(0.75)


def test_nothing_to_learn_from_is_an_error_that_says_so(examples: Examples) -> None:
    with pytest.raises(SettingsError, match="nothing to learn from"):
        Mixture([Part("none", examples, 0.0)])
