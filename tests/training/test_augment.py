import numpy as np
import pytest
import torch
from rich.progress import Progress

from schemas.codes import Landmark, Segment
from tests.training.tiny_recipe import TINY
from training.plain.augment import augmented_batch
from training.plain.pool import Pool, load_pool
from training.plain.targets import CHANNELS
from workers.landmark import locate
from workers.networks.dense import STRIDE


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    with Progress(disable=True) as progress:
        return load_pool(TINY.pool_settings, tmp_path_factory.mktemp("cache"), progress)


def test_landmarks_move_with_the_image(pool: Pool) -> None:
    """The tip's heat map peaks at the end of the course that the same transform moved."""
    indices = np.arange(len(pool))
    batch = augmented_batch(pool, indices, TINY.network.preprocessing, torch.Generator().manual_seed(1))
    course = batch.dense[:, CHANNELS.index(Segment.ENDOTRACHEAL_TUBE)].numpy()
    tip = batch.dense[:, CHANNELS.index(Landmark.ENDOTRACHEAL_TUBE_TIP)].numpy()
    checked = 0
    for index in indices:
        if np.isnan(pool.landmarks[index, 0, 0]) or tip[index].max() < 0.9 or not course[index].any():
            continue
        row = np.nonzero(course[index].any(axis=1))[0].max()
        peak = locate(np.log(tip[index].clip(1e-6, 1 - 1e-6) / (1 - tip[index].clip(1e-6, 1 - 1e-6))), STRIDE)
        assert peak is not None
        assert peak.y / STRIDE == pytest.approx(row + 0.5, abs=1.2)
        checked += 1
    assert checked >= 4


def test_inputs_stay_in_range_and_targets_in_0_to_1(pool: Pool) -> None:
    batch = augmented_batch(pool, np.arange(8), TINY.network.preprocessing, torch.Generator().manual_seed(2))
    assert batch.images.shape == (8, 1, 64, 64)
    assert batch.images.min() >= -2
    assert batch.images.max() <= 2
    assert batch.dense.shape == (8, len(CHANNELS), 16, 16)
    assert batch.dense.min() >= 0
    assert batch.dense.max() <= 1.001


def test_a_tube_free_phantom_has_no_tip_and_no_position(pool: Pool) -> None:
    without = np.isnan(pool.landmarks[:, 0, 0])
    assert without.any()
    assert np.isnan(pool.classes[without, -1]).all()
    batch = augmented_batch(pool, np.flatnonzero(without), TINY.network.preprocessing, torch.Generator())
    assert batch.dense[:, CHANNELS.index(Landmark.ENDOTRACHEAL_TUBE_TIP)].max() == 0
