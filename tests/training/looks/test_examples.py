import dataclasses
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.progress import Progress

from schemas.bundle import Acceptance, SecondLookHead
from schemas.codes import Finding, Landmark, Segment
from tests.support.bundles import with_second_look
from tests.support.examples import COLUMNS, PLACING, PREPROCESSING, ROWS, Drawing
from tests.support.tiny import tiny_manifest
from training.examples.details import kept_details
from training.examples.filling import fill
from training.examples.placing import BITS, Truth, write_example
from training.examples.store import Examples, create_examples
from training.examples.targets import COURSES, LANDMARKS, TARGETS, acceptance_classes
from workers.placement import Placement
from workers.second_look import Detail, detail_preprocessing

_TUBE = COURSES.index(Segment.ENDOTRACHEAL_TUBE)
_TIP = LANDMARKS.index(Landmark.ENDOTRACHEAL_TUBE_TIP)


def _known(examples: Examples, index: int, name: Segment | Finding) -> bool:
    return bool(int(examples.masks_known[index]) >> BITS.index(name) & 1)


def _mask(examples: Examples, index: int, name: Segment | Finding) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (examples.masks[index] >> BITS.index(name) & 1).astype(bool)
    return inside


def test_the_tip_lies_at_the_end_of_the_bright_line_in_the_image_and_in_the_detail(examples: Examples) -> None:
    for index in (0, 2, 4):
        x, y = examples.landmarks[index, _TIP]
        image = examples.images[index].astype(float)
        assert image[round(y) - 3, round(x - 0.5)] > image[round(y) + 3, round(x - 0.5)] + 20
        scale, offset = examples.to_detail[index, :2], examples.to_detail[index, 2:]
        column, row = examples.landmarks[index, _TIP] * scale + offset
        line = examples.details[index, :, round(column - 0.5)].astype(float)
        # The tube's end is the only fall from white to grey on its line.
        assert np.argmin(np.diff(line)) == pytest.approx(row, abs=2)


def test_what_is_kept_for_the_second_look_lies_where_the_whole_film_has_it(examples: Examples) -> None:
    manifest = with_second_look(tiny_manifest()).model_copy(update={"preprocessing": PREPROCESSING})
    (head,) = (each for each in manifest.heads if isinstance(each, SecondLookHead))
    heads = [head.model_copy(update={"detail_size": 1024}) if each is head else each for each in manifest.heads]
    manifest = manifest.model_copy(update={"heads": heads})
    finer = detail_preprocessing(manifest)
    assert finer is not None
    for index, kept in enumerate(kept_details(examples.rows(slice(0, 4)), manifest)):
        assert kept is not None
        image = Drawing()(index).image
        whole = Detail.of(image, Placement.of(ROWS, COLUMNS, finer)).pixels.astype(float)
        there = kept.pixels > 0
        assert there.sum() > 0.25 * 1024 * 1024
        # To a pixel or two: only edges differ.
        assert np.median(np.abs(kept.pixels - whole)[there]) < 4
    unknown = dataclasses.replace(examples.rows(slice(0, 1)), to_detail=np.full((1, 4), np.nan, np.float32))
    assert kept_details(unknown, manifest) == [None]


def test_masks_stand_where_they_were_drawn(examples: Examples) -> None:
    image, lung = examples.images[1], _mask(examples, 1, Segment.RIGHT_LUNG)
    inside = np.kron(lung, np.ones((2, 2), bool))
    assert image[inside].mean() < image[32, 32] - 60
    assert np.nonzero(lung)[1].max() < np.nonzero(_mask(examples, 1, Segment.LEFT_LUNG))[1].min()


def test_what_nobody_knows_is_unknown_and_what_is_known_to_be_absent_is_not(examples: Examples) -> None:
    assert not _known(examples, 1, Segment.HEART)
    assert _known(examples, 1, Finding.PLEURAL_EFFUSION)
    assert not _mask(examples, 1, Finding.PLEURAL_EFFUSION).any()
    assert _mask(examples, 0, Finding.PLEURAL_EFFUSION).any()
    assert examples.courses_known[1].all()
    assert np.isnan(examples.courses[1]).all()
    assert np.isnan(examples.classes[1, TARGETS.index(Finding.NODULE.value)])
    assert examples.classes[1, TARGETS.index(Finding.PLEURAL_EFFUSION.value)] == 0


def test_an_image_that_is_no_chest_says_nothing_but_what_it_is(tmp_path: Path) -> None:
    examples = create_examples(tmp_path, 1, PREPROCESSING.size)
    hand = np.random.default_rng(0).random((500, 400), np.float32)
    write_example(examples, 0, hand, Truth(acceptance_classes(Acceptance.NOT_CHEST)), PREPROCESSING, 1024)
    assert examples.masks_known[0] == 0
    assert not examples.courses_known[0].any()
    assert np.isnan(examples.to_detail[0]).all()
    assert np.isfinite(examples.classes[0]).sum() == len(Acceptance)
    assert examples.classes[0, TARGETS.index(Acceptance.NOT_CHEST.value)] == 1


def test_a_killed_rendering_goes_on_and_makes_nothing_twice(tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "examples"
    log.mkdir()
    with Progress(disable=True) as progress:
        whole = fill(folder, 30, Drawing(log), PLACING, progress, "Drawing")
        images = np.array(whole.images)
        # As after a kill in the middle of the second chunk.
        (folder / "done" / "20").unlink()
        np.load(folder / "images.npy", mmap_mode="r+")[25] = 0
        again = fill(folder, 30, Drawing(log), PLACING, progress, "Drawing")
    assert np.array_equal(again.images, images)
    drawn = {int(path.name): path.read_text().count("drawn") for path in log.iterdir()}
    assert drawn == {index: 2 if index >= 20 else 1 for index in range(30)}
    assert multiprocessing.active_children() == []
