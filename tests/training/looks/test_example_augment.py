import numpy as np
import pytest
import torch

from schemas.codes import Landmark, Segment
from tests.support.examples import PREPROCESSING
from training.examples.store import Examples
from training.examples.targets import CHANNELS, CLOSER_CHANNELS
from training.learning.augment import closer_batch, course_maps, first_batch, heat_maps
from workers.networks.dense import STRIDE

_CROP = 384
_TIP = CLOSER_CHANNELS.index(Landmark.ENDOTRACHEAL_TUBE_TIP)


def _indices(examples: Examples) -> np.ndarray:
    return np.arange(len(examples))


def test_the_tip_stays_at_the_end_of_the_course_whatever_the_film_is_turned_by(examples: Examples) -> None:
    batch = closer_batch(examples, PREPROCESSING, _CROP, STRIDE, torch.Generator().manual_seed(1))
    checked = 0
    for course, tip in zip(batch.dense[:, 0], batch.dense[:, _TIP], strict=True):
        if tip.max() < 0.9:
            continue
        row, column = divmod(int(tip.argmax()), tip.shape[1])
        rows, columns = course.nonzero(as_tuple=True)
        assert rows.max() == pytest.approx(row, abs=4)
        assert columns[rows == rows.max()].float().mean() == pytest.approx(column, abs=4)
        checked += 1
    assert checked >= 10


def test_the_tip_of_the_crop_lies_where_the_bright_line_ends(examples: Examples) -> None:
    batch = closer_batch(examples, PREPROCESSING, _CROP, STRIDE, torch.Generator().manual_seed(2))
    bright_above, checked = 0, 0
    for image, course, tip in zip(batch.images[:, 0], batch.dense[:, 0], batch.dense[:, _TIP], strict=True):
        row, column = divmod(int(tip.argmax()), tip.shape[1])
        if tip.max() < 0.9 or not 8 < row < 86 or not 4 < column < 92:
            continue
        line = course.bool()
        line[max(0, row - 2) :] = False
        shrunk = torch.nn.functional.avg_pool2d(image[None, None], STRIDE)[0, 0]
        below = shrunk[row + 3 : row + 8, column - 2 : column + 3].mean()
        bright_above += int(shrunk[line].mean() > below)
        checked += 1
    assert checked >= 8
    assert bright_above >= 0.9 * checked


def test_films_are_never_mirrored(examples: Examples) -> None:
    batch = first_batch(examples, PREPROCESSING, torch.Generator().manual_seed(3))
    right, left = (batch.dense[:, CHANNELS.index(lung)] for lung in (Segment.RIGHT_LUNG, Segment.LEFT_LUNG))
    columns = torch.arange(right.shape[-1]).float()
    centres = [(lung.sum(dim=1) * columns).sum(dim=1) / lung.sum(dim=(1, 2)) for lung in (right, left)]
    assert (centres[0] < centres[1]).all()


def test_unknown_maps_are_nan_and_known_empty_ones_are_zero(examples: Examples) -> None:
    batch = first_batch(examples.rows(np.array([1])), PREPROCESSING, torch.Generator().manual_seed(4))
    assert batch.dense[0, CHANNELS.index(Segment.HEART)].isnan().all()
    assert (batch.dense[0, CHANNELS.index(Segment.ENDOTRACHEAL_TUBE)] == 0).all()
    assert (batch.dense[0, CHANNELS.index(Landmark.ENDOTRACHEAL_TUBE_TIP)] == 0).all()
    assert batch.dense[0, CHANNELS.index(Landmark.CARINA)].max() > 0.5
    closer = closer_batch(examples.rows(np.array([1])), PREPROCESSING, _CROP, STRIDE, torch.Generator().manual_seed(4))
    assert closer.dense.shape == (1, len(CLOSER_CHANNELS), _CROP // STRIDE, _CROP // STRIDE)
    assert (closer.dense[0, : _TIP + 1] == 0).all()


def test_whatever_the_window_the_model_sees_stretched_greys(examples: Examples) -> None:
    """The 5th and the 95th percentile of the film lie near 0.05 and 0.95, and beside the film it is black."""
    batch = first_batch(examples, PREPROCESSING, torch.Generator().manual_seed(5))
    greys = batch.images * PREPROCESSING.std[0] + PREPROCESSING.mean[0]
    assert greys.min() >= -1e-5
    assert greys.max() <= 1 + 1e-5
    low, high = (np.array([np.quantile(each[each > 0.001].numpy(), q) for each in greys]) for q in (0.05, 0.95))
    assert np.median(low) == pytest.approx(0.05, abs=0.06)
    assert np.median(high) == pytest.approx(0.95, abs=0.03)


def test_the_same_generator_gives_the_same_batch_and_another_one_another(examples: Examples) -> None:
    one, same, other = (
        first_batch(examples.rows(slice(0, 4)), PREPROCESSING, torch.Generator().manual_seed(seed)).images
        for seed in (7, 7, 8)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=0.1)


def test_a_course_is_drawn_along_its_points_and_as_wide_as_it_is() -> None:
    line = torch.stack([torch.full((50,), 40.0), torch.linspace(0, 60, 50)], dim=1)
    maps = course_maps(line[None, None].repeat(1, 2, 1, 1), torch.tensor([[1.0, 12.0]]), stride=4, cells=20)
    thin, thick = maps[0]
    assert thin[:15].sum(dim=1).tolist() == [2.0] * 15
    assert thick[5].sum() == 6
    assert thin[17:].sum() == 0


def test_a_point_that_is_not_there_leaves_its_heat_map_empty() -> None:
    maps = heat_maps(torch.tensor([[[float("nan"), float("nan")], [10.0, 30.0]]]), stride=4, cells=16)
    assert maps[0, 0].max() == 0
    row, column = divmod(int(maps[0, 1].argmax()), 16)
    assert (row, column) == (7, 2)
