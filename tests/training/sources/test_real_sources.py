"""The sources on the real images beside the checkout, with the figures that docs/data-sources.md states."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress

from tests.conftest import REAL_DATA
from training.curation.curate import Curation, curate
from training.curation.settings import CurationSettings
from training.sources.covid_chestxray import CovidChestxray
from training.sources.kermany import Kermany
from training.sources.masks import lung_sides
from training.sources.nih import ChestXray14
from training.sources.source import Source

_CXR = REAL_DATA / "cxr"
pytestmark = pytest.mark.skipif(not _CXR.is_dir(), reason="the real radiographs (../shared/data/cxr) are absent")

_SOURCES: dict[str, Callable[[], Source]] = {
    "kermany": lambda: Kermany(_CXR / "kermany_v7_masks"),
    "nih": lambda: ChestXray14(_CXR / "nih_chestxray14_subset"),
    "covid-chestxray": lambda: CovidChestxray(_CXR / "ieee8023"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curated")


@pytest.fixture(scope="module")
def curation(folder: Path) -> Curation:
    """All three, read by two processes."""
    with Progress(disable=True) as progress:
        return curate([make() for make in _SOURCES.values()], CurationSettings(), folder, progress)


@pytest.mark.parametrize(
    ("name", "images", "patients"), [("kermany", 362, 323), ("nih", 849, 592), ("covid-chestxray", 381, 222)]
)
def test_images_and_patients_are_as_many_as_stated(name: str, images: int, patients: int) -> None:
    samples = list(_SOURCES[name]())
    assert (len(samples), len({sample.patient for sample in samples})) == (images, patients)
    assert _SOURCES[name]().verified


def test_every_outlined_left_lung_of_a_real_film_lies_at_the_right_of_the_image() -> None:
    outlined = [
        sample for sample in _SOURCES["covid-chestxray"]() if {"right_lung", "left_lung"} <= sample.masks.keys()
    ]
    assert len(outlined) > 60
    for sample in outlined:
        right, left = (sample.masks[side].read(100, 100) for side in ("right_lung", "left_lung"))
        assert np.nonzero(right)[1].mean() < np.nonzero(left)[1].mean(), sample.key


def test_most_outlines_of_both_lungs_can_be_divided() -> None:
    samples = list(_SOURCES["kermany"]())[::20]
    divided = [lung_sides(sample.masks["lungs"].read(*sample.read().shape)) for sample in samples]
    assert sum(sides is not None for sides in divided) >= 0.8 * len(samples)


def test_curation_finds_the_films_that_are_there_twice(curation: Curation) -> None:
    reasons = {image.source: Counter[str | None]() for image in curation.images}
    for image in curation.images:
        reasons[image.source][image.excluded] += 1
    assert reasons["covid-chestxray"]["near duplicate"] == 8
    assert reasons["nih"]["duplicate"] == 1 and reasons["nih"]["upside down"] == 1
    kept = {(image.source, image.key): image for image in curation.images}
    for image in curation.images:
        if image.duplicate_of:
            original = kept[tuple(image.duplicate_of.split("/", 1))]  # type: ignore[index]
            assert original.split is not None
    # Published under two patients' numbers, and on one side nevertheless.
    patients = {image.key: image for image in curation.images if image.source == "covid-chestxray"}
    others = [each for each in patients.values() if each.patient == patients["16660_2_1"].patient and each.split]
    assert {each.split for each in others} == {patients["16660_3_1"].split}


def test_no_patient_is_on_two_sides_and_only_clean_licences_may_be_asked_for(curation: Curation, folder: Path) -> None:
    sides: dict[str, set[str]] = {}
    for image in curation.images:
        if image.split is not None:
            sides.setdefault(image.patient, set()).add(image.split)
    assert all(len(each) == 1 for each in sides.values())
    with Progress(disable=True) as progress:
        clean = curate([_SOURCES["covid-chestxray"]()], CurationSettings(clean_only=True), folder, progress)
    licences = Counter(image.licence for image in clean.images if image.split is not None)
    assert licences.keys() == {"CC BY 3.0", "CC BY 4.0", "CC BY"}
