"""Shards give back what went in, in an order that can be had again, also by a training that was stopped."""

from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress
from torch.utils.data import DataLoader

from schemas.errors import SourceError
from tests.training.sources import layouts
from training.curation import shards
from training.curation.curate import Curation, curate
from training.curation.settings import CurationSettings
from training.curation.shards import ShardDataset, write_shards
from training.curation.split import SplitShares
from training.sources.folder import Folder
from training.sources.ranzcr import RanzcrClip
from training.sources.source import Sample

_LEARN_ALL = CurationSettings(shares=SplitShares(val=0, test=0), corners=0)


@pytest.fixture
def curation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Curation:
    """20 images in shards of three."""
    monkeypatch.setattr(shards, "_PER_SHARD", 3)
    layouts.folder(tmp_path / "in", patients=10)
    with Progress(disable=True) as progress:
        made = curate([Folder(tmp_path / "in")], _LEARN_ALL, tmp_path, progress, processes=1)
        write_shards(made, tmp_path, 120, progress)
    return made


def _keys(dataset: ShardDataset) -> list[str]:
    return [sample.key for sample in dataset]


def test_shards_give_back_every_image_with_all_that_is_known_of_it(tmp_path: Path, curation: Curation) -> None:
    read = {sample.key: sample for sample in ShardDataset(tmp_path, "train")}
    assert read.keys() == {sample.key for sample in curation.part("train")} and len(read) == 20
    for sample in curation.part("train"):
        other = read[sample.key]
        assert (other.labels, other.view, other.age_years) == (sample.labels, sample.view, sample.age_years)
        image = other.read()
        assert image.shape == (120, 100) and image.dtype == np.float32
        whole = sample.read().reshape(120, 2, 100, 2).mean((1, 3))
        assert np.abs(image - whole).max() < 1e-3
        assert other.landmarks["carina"].x == sample.landmarks["carina"].x / 2
        for structure, mask in sample.masks.items():
            assert np.array_equal(other.masks[structure].read(120, 100), mask.read(240, 200)[1::2, 1::2])
        # The publisher's number of the patient stays where it was.
        assert other.patient != sample.patient


def test_courses_come_back_at_the_size_of_the_image(tmp_path: Path) -> None:
    layouts.ranzcr(tmp_path / "in")
    with Progress(disable=True) as progress:
        made = curate([RanzcrClip(tmp_path / "in")], _LEARN_ALL, tmp_path, progress, processes=1)
        write_shards(made, tmp_path, 120, progress)
    by_key = {sample.key: sample for sample in ShardDataset(tmp_path, "train")}
    assert by_key[layouts.UID].courses[0].points.tolist() == [[5, 10], [5.5, 20], [6, 30]]


@pytest.mark.usefixtures("curation")
def test_order_follows_seed_and_epoch_and_a_stopped_training_goes_on(tmp_path: Path) -> None:
    first = _keys(ShardDataset(tmp_path, "train", seed=1))
    assert first == _keys(ShardDataset(tmp_path, "train", seed=1))
    others = [_keys(ShardDataset(tmp_path, "train", seed=2)), _keys(ShardDataset(tmp_path, "train", seed=1, epoch=1))]
    assert all(other != first and sorted(other) == sorted(first) for other in others)
    assert _keys(ShardDataset(tmp_path, "train", seed=1, batch_size=2, skip_batches=4)) == first[8:]
    parts = [_keys(ShardDataset(tmp_path, "train", seed=1, part=part, parts=2)) for part in (0, 1)]
    assert sorted(parts[0] + parts[1]) == sorted(first)


def _batch_keys(samples: list[Sample]) -> list[str]:
    return [sample.key for sample in samples]


@pytest.mark.usefixtures("curation")
def test_several_workers_go_on_where_they_were(tmp_path: Path) -> None:
    def batches(skip: int) -> list[list[str]]:
        dataset = ShardDataset(tmp_path, "train", seed=3, batch_size=2, skip_batches=skip)
        return list(DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=_batch_keys))

    whole = batches(0)
    assert sorted(key for batch in whole for key in batch) == sorted(_keys(ShardDataset(tmp_path, "train")))
    # The workers of the rest begin with worker 0 again: pairs of batches come in the other order after an odd number.
    assert batches(4) == whole[4:]


def test_what_an_earlier_run_wrote_is_kept_unless_the_images_are_others(tmp_path: Path, curation: Curation) -> None:
    folder = tmp_path / "shards"
    first = {path.name: path.read_bytes() for path in folder.glob("*.tar")}
    missing, kept = sorted(folder.glob("*.tar"))[:2]
    missing.unlink()
    stamp = kept.stat().st_mtime_ns
    with Progress(disable=True) as progress:
        write_shards(curation, tmp_path, 120, progress)
        assert {path.name: path.read_bytes() for path in folder.glob("*.tar")} == first
        assert kept.stat().st_mtime_ns == stamp
        write_shards(curation, tmp_path, 60, progress)
    assert all(max(sample.read().shape) == 60 for sample in ShardDataset(tmp_path, "train"))


def test_a_folder_without_shards_says_how_to_write_them(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="--shards"):
        _keys(ShardDataset(tmp_path, "train"))
