"""Images that are no frontal chest radiograph."""

import numpy as np
import pytest

from schemas.bundle import Acceptance
from training.phantom.burned_in_text import draw_burned_in_text
from training.phantom.not_chest import Subject, render_not_chest
from training.phantom.render import render_phantom
from training.phantom.truth import View


@pytest.mark.parametrize("subject", list(Subject))
def test_each_subject_is_drawn_alike_from_its_seed_and_says_why_it_is_refused(subject: Subject) -> None:
    first, again = (render_not_chest(5, 120, 96, subject=subject) for _ in range(2))
    assert first.image.shape == (120, 96)
    assert first.image.dtype == np.float32
    assert 0 <= first.image.min() <= first.image.max() <= 1
    assert np.array_equal(first.image, again.image)
    assert first.subject is subject
    assert first.reason is not Acceptance.FRONTAL_CHEST
    if subject is not Subject.BLANK:
        other = render_not_chest(6, 120, 96, subject=subject)
        assert np.abs(first.image - other.image).mean() > 0.01


def test_every_reason_for_refusal_occurs() -> None:
    assert {subject.acceptance for subject in Subject} == set(Acceptance) - {Acceptance.FRONTAL_CHEST}
    drawn = {render_not_chest(seed, 48, 48).subject for seed in range(50)}
    assert drawn == set(Subject)


def test_a_chest_upside_down_turned_or_inverted_is_the_same_chest() -> None:
    chest = render_phantom(7, 90, 90, view=View.AP, masks=False).image
    assert np.array_equal(render_not_chest(7, 90, 90, subject=Subject.UPSIDE_DOWN).image, np.rot90(chest, 2))
    assert np.array_equal(render_not_chest(7, 90, 90, subject=Subject.INVERTED).image, 1 - chest)
    turned = render_not_chest(7, 90, 90, subject=Subject.ROTATED).image
    assert any(np.array_equal(turned, np.rot90(chest, quarter)) for quarter in (1, 3))


def test_a_hand_fills_less_of_the_image_than_an_abdomen() -> None:
    dark = [
        np.mean([(render_not_chest(seed, 96, 96, subject=subject).image < 0.25).mean() for seed in range(6)])
        for subject in (Subject.HAND, Subject.ABDOMEN)
    ]
    assert dark[0] > dark[1]


def test_text_is_written_near_the_sides_only_and_not_on_most_images() -> None:
    written = [draw_burned_in_text(np.random.default_rng(seed), 200, 200) for seed in range(60)]
    assert {text.count for text in written} == {0, 1, 2, 3}
    assert 0.3 < np.mean([text.count == 0 for text in written]) < 0.75
    for text in written:
        film = text.onto(np.full((200, 200), 0.3, dtype=np.float32))
        assert (film > 0.5).any() == (text.count > 0)
        assert (film[:, 85:115] == np.float32(0.3)).all()
