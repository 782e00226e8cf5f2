"""Views change what they say they change, alike however a batch is shared out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.pretraining.tiny import drawn_store
from training.pretraining.draws import Draws
from training.pretraining.order import rows_of_step
from training.pretraining.views import View

_ALL = View(scale=(0.3, 1), move=0.5, distort=0.5, jitter=0.8, blur=0.5, sharpen=0.5, noise=0.5, solarize=0.5, flip=0.5)


def _images(rows: range = range(8)) -> Tensor:
    return torch.from_numpy(drawn_store().images.take(np.array(rows))).float()[:, None] / 255


def test_an_image_gives_the_same_view_in_whatever_company() -> None:
    together = _ALL.of(_images(), 48, Draws(0, 3, range(8)))
    apart = torch.cat([_ALL.of(_images(rows), 48, Draws(0, 3, rows)) for rows in (range(3), range(3, 8))])
    assert torch.allclose(together, apart, atol=1e-5)
    assert not torch.allclose(together, _ALL.of(_images(), 48, Draws(0, 4, range(8))), atol=0.1)
    assert float(together.min()) >= 0
    assert float(together.max()) <= 1


def test_a_view_without_settings_is_the_image() -> None:
    images = _images()
    assert torch.equal(View().of(images, 64, Draws(0, 0, range(8))), images)
    assert torch.allclose(View().of(images, 32, Draws(0, 0, range(8))).mean(), images.mean(), atol=0.01)


def test_nothing_is_mirrored_unless_it_is_asked_for() -> None:
    ramp = torch.linspace(0, 1, 64).expand(64, 1, 64, 64).contiguous()
    for flip, share in ((0.0, 0.0), (0.5, 0.5)):
        seen = View(scale=(0.5, 1.0), flip=flip).of(ramp, 32, Draws(0, 0, range(64)))
        falling = (seen[:, 0, 16, -1] < seen[:, 0, 16, 0]).float().mean()
        assert float(falling) == pytest.approx(share, abs=0.15 if share else 0.0)


def test_crops_take_the_share_of_the_image_that_was_asked_for() -> None:
    x = torch.linspace(0, 1, 128)
    ramps = torch.stack([x.expand(128, 128), x.expand(128, 128).T])[:, None]
    shares = []
    for step in range(60):
        # The same draws for both: what the one spans across, the other spans down.
        across, down = (View(scale=(0.05, 0.32)).of(ramp[None], 32, Draws(0, step, [0]))[0, 0] for ramp in ramps)
        shares.append(float((across.max() - across.min()) * (down.max() - down.min())))
    assert min(shares) > 0.03
    assert max(shares) < 0.36
    assert np.mean(shares) == pytest.approx(0.185, abs=0.04)


def test_fine_stripes_become_grey_and_not_other_stripes() -> None:
    stripes = (torch.arange(256) % 2).float().expand(4, 1, 256, 256).contiguous()
    seen = View(scale=(0.9, 1.0)).of(stripes, 32, Draws(0, 0, range(4)))
    assert float(seen.std()) < 0.05


def test_every_image_is_seen_once_per_round_and_each_round_has_its_own_order() -> None:
    rounds = np.concatenate([rows_of_step(step, 6, 20, 0) for step in range(10)]).reshape(3, 20)
    for rows in rounds:
        assert sorted(rows.tolist()) == list(range(20))
    assert not np.array_equal(rounds[0], rounds[1])
    assert not np.array_equal(rows_of_step(0, 6, 20, 0), rows_of_step(0, 6, 20, 1))
