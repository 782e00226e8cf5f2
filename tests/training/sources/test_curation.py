"""Curation: no film twice, no patient on two sides, nothing of an evaluation in training, the same again every time."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.progress import Progress

from schemas.errors import SourceError
from tests.training.sources import layouts
from training.curation.burned_in import without_burned_in
from training.curation.curate import Curation, curate
from training.curation.duplicates import find_duplicates
from training.curation.fingerprint import fingerprint_of
from training.curation.manifest import MANIFEST_FILE, read_manifest
from training.curation.orientation import orientation_faults
from training.curation.quality import is_clean
from training.curation.settings import CurationSettings
from training.curation.split import Member, SplitShares, place
from training.sources.catalogue import open_folder, parse
from training.sources.folder import Folder

_HALVES = CurationSettings(shares=SplitShares(val=0.2, test=0.4))


def _curate(folder: Path, out: Path, settings: CurationSettings = _HALVES, name: str = "folder") -> Curation:
    with Progress(disable=True) as progress:
        return curate([Folder(folder, name=name)], settings, out, progress, processes=1)


def _grey(seed: int, rows: int = 240, columns: int = 200) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return (layouts.chest(seed, rows, columns) / np.float32(255)).astype(np.float32)


_members = st.lists(
    st.builds(
        Member,
        patient=st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2", "3", "4", "5"])),
        published=st.sampled_from([None, "train", "val", "test"]),
    ),
    min_size=1,
    max_size=20,
)


@given(members=_members, data=st.data())
def test_no_patient_and_no_film_is_ever_on_two_sides(members: list[Member], data: st.DataObject) -> None:
    positions = st.integers(0, len(members) - 1)
    films = data.draw(st.lists(st.tuples(positions, positions), max_size=8))
    placed = place(members, films, SplitShares(val=0.3, test=0.3), "key")
    sides: dict[tuple[str, str], set[str]] = {}
    for member, side in zip(members, placed, strict=True):
        if not side.held_out:
            sides.setdefault(member.patient, set()).add(side.split)
    assert all(len(each) == 1 for each in sides.values())
    for first, second in films:
        if not placed[first].held_out and not placed[second].held_out:
            assert placed[first].split == placed[second].split
    for member, side in zip(members, placed, strict=True):
        # What a publisher tests on is tested on, never learned from.
        assert member.published != "test" or (side.split == "test" and not side.held_out)


@given(patients=st.sets(st.integers(0, 10_000), min_size=1, max_size=40), more=st.sets(st.integers(10_001, 20_000)))
def test_more_patients_move_nobody_else(patients: set[int], more: set[int]) -> None:
    def sides(numbers: set[int]) -> dict[int, str]:
        members = [Member(("source", str(number)), None) for number in sorted(numbers)]
        placed = place(members, [], SplitShares(), "key")
        return {number: side.split for number, side in zip(sorted(numbers), placed, strict=True)}

    alone, together = sides(patients), sides(patients | more)
    assert all(together[number] == side for number, side in alone.items())


def test_shares_hold_over_many_patients_and_another_key_draws_others() -> None:
    members = [Member(("source", str(number)), None) for number in range(4000)]
    shares = SplitShares(val=0.1, test=0.2)
    first, second = (place(members, [], shares, key) for key in ("one", "two"))
    tests = [index for index, side in enumerate(first) if side.split == "test"]
    assert 700 < len(tests) < 900
    assert 350 < sum(side.split == "val" for side in first) < 450
    assert 0.1 < sum(second[index].split == "test" for index in tests) / len(tests) < 0.3


def test_one_film_in_other_clothes_is_found_and_another_patient_is_not() -> None:
    film = _grey(1, 600, 500)
    cropped = film[10:-8, 6:-10]
    smaller = np.asarray(Image.fromarray(film).resize((250, 300), Image.Resampling.BOX))
    windowed = np.clip((film - 0.2) * 1.4, 0, 1).astype(np.float32)
    marked = film.copy()
    marked[40:70, 30:50] = 1
    others = [_grey(seed, 600, 500) for seed in range(2, 30)]
    prints = [fingerprint_of(image) for image in (film, film.copy(), cropped, smaller, windowed, marked, *others)]
    with Progress(disable=True) as progress:
        pairs = find_duplicates(prints, progress)
    assert {(pair.first, pair.second) for pair in pairs if pair.first == 0} == {(0, other) for other in range(1, 6)}
    assert [pair for pair in pairs if pair.exact] == [pair for pair in pairs if (pair.first, pair.second) == (0, 1)]
    assert all(pair.second < 6 for pair in pairs)


def test_another_outline_of_the_same_film_is_another_curation(tmp_path: Path) -> None:
    """Or stages that learned from the outlines would be taken for up to date."""
    root = layouts.montgomery(tmp_path / "in")

    def digest(name: str) -> str:
        with Progress(disable=True) as progress:
            return curate([open_folder(parse(f"montgomery={root}"))], _HALVES, tmp_path / name, progress).digest

    before = digest("one")
    assert digest("two") == before
    mask = next(path for path in sorted(root.rglob("*.png")) if "mask" in str(path).lower())
    outline = np.asarray(Image.open(mask).convert("L")).copy()
    outline[: len(outline) // 2] = 0
    Image.fromarray(outline).save(mask)
    assert digest("one") != before


def test_the_manifest_says_of_every_image_what_became_of_it_and_names_no_patient(tmp_path: Path) -> None:
    layouts.folder(tmp_path / "in", patients=30)
    # The first film of one patient under another's name, a strip, and a file that is no image.
    Image.fromarray(layouts.chest(1000)).save(tmp_path / "in" / "p7-1.png", compress_level=0)
    Image.fromarray(layouts.chest(5, 600, 150)).save(tmp_path / "in" / "p8-0.png")
    (tmp_path / "in" / "p9-0.png").write_bytes(b"no image")
    made = _curate(tmp_path / "in", tmp_path / "out")
    images = {image.key: image for image in read_manifest(tmp_path / "out")}
    assert len(images) == 60 and images == {image.key: image for image in made.images}
    assert images["p7-1.png"].excluded == "duplicate" and images["p7-1.png"].duplicate_of == "folder/p0-0.png"
    assert images["p7-0.png"].split == images["p0-0.png"].split == images["p0-1.png"].split
    assert images["p8-0.png"].excluded == "smaller than 160 pixels" and images["p9-0.png"].excluded == "unreadable"
    assert all((image.split is None) == (image.excluded is not None) for image in images.values())
    sides: dict[str, set[str]] = {}
    for image in images.values():
        if image.split:
            sides.setdefault(image.patient, set()).add(image.split)
    assert all(len(each) == 1 for each in sides.values())
    assert {side for each in sides.values() for side in each} == {"train", "val", "test"}
    lines = [json.loads(line) for line in (tmp_path / "out" / MANIFEST_FILE).read_text().splitlines()]
    assert not any(line["patient"] == f"P{number}" for line in lines for number in range(30))
    assert {sample.key for sample in made.part("train")} == {i.key for i in images.values() if i.split == "train"}


def test_a_second_run_reads_nothing_again_and_writes_the_same(tmp_path: Path) -> None:
    layouts.folder(tmp_path / "in", patients=6)
    first = _curate(tmp_path / "in", tmp_path / "out")
    seen = tmp_path / "out" / "seen.jsonl"
    # Half a line, as after a kill.
    seen.write_text("\n".join(seen.read_text().splitlines()[:8]) + '\n{"image": "')
    second = _curate(tmp_path / "in", tmp_path / "out")
    assert second.digest == first.digest
    before = seen.read_text()
    third = _curate(tmp_path / "in", tmp_path / "out")
    assert third.digest == first.digest and seen.read_text() == before
    assert _curate(tmp_path / "in", tmp_path / "elsewhere").digest == first.digest


def test_whoever_is_in_an_evaluation_is_not_learned_from_elsewhere(tmp_path: Path) -> None:
    layouts.folder(tmp_path / "in", patients=20)
    made = _curate(tmp_path / "in", tmp_path / "out")
    frozen = [image for image in made.images if image.split == "test"]
    everything = CurationSettings(shares=SplitShares(val=0.1, test=0))
    # The same films as a source of another name, whose patients have other numbers.
    for name in ("folder", "copies"):
        with Progress(disable=True) as progress:
            again = curate(
                [Folder(tmp_path / "in", name=name)],
                everything,
                tmp_path / name,
                progress,
                held_out=frozen,
                processes=1,
            )
        learned = {image.key for image in again.images if image.split is not None}
        assert learned == {image.key for image in made.images} - {image.key for image in frozen}
        assert {i.excluded for i in again.images if i.key not in learned} == {"patient of an evaluation"}


def test_patients_whom_the_publisher_tests_on_are_left_out_of_training(tmp_path: Path) -> None:
    layouts.kermany(tmp_path)
    from training.sources.kermany import Kermany

    with Progress(disable=True) as progress:
        made = curate([Kermany(tmp_path)], CurationSettings(), tmp_path / "out", progress, processes=1)
    by_key = {image.key: image for image in made.images}
    assert by_key["person1_virus_6"].split == "test"
    assert by_key["person1_bacteria_1"].excluded == "patient held out by the publisher"
    assert by_key["person1950_bacteria_4881"].split == "val"


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    layouts.folder(tmp_path / "in")
    with Progress(disable=True) as progress, pytest.raises(SourceError, match="kind:name=folder"):
        curate([Folder(tmp_path / "in"), Folder(tmp_path / "in")], _HALVES, tmp_path / "out", progress, processes=1)


@pytest.mark.parametrize(
    "licence", ["CC BY 4.0", "CC BY 3.0", "CC BY", "CC0 1.0", "no restrictions, attribution to the NIH Clinical Center"]
)
def test_licences_that_ask_for_attribution_at_most_are_clean(licence: str) -> None:
    assert is_clean(licence)


@pytest.mark.parametrize(
    "licence", ["", "CC BY-NC-SA 4.0", "CC BY-NC", "CC BY-ND", "CC BY-SA", "unclear: CC BY", "listed as authorized"]
)
def test_all_other_licences_are_not_clean(licence: str) -> None:
    assert not is_clean(licence)


def test_an_image_that_lies_or_stands_on_its_head_and_a_negative_are_left_out() -> None:
    images = [_grey(seed, 240, 240) for seed in range(40)]
    # The chest of a patient is not symmetric from top to bottom: below the lungs it is bright.
    images = [np.where(np.arange(240)[:, None] > 170, 0.9, image).astype(np.float32) for image in images]
    images[3], images[7], images[11] = np.rot90(images[3], 2), np.rot90(images[7]), 1 - images[11]
    faults = orientation_faults([fingerprint_of(np.ascontiguousarray(image)) for image in images])
    assert {index: fault for index, fault in enumerate(faults) if fault} == {
        3: "upside down",
        7: "turned by 270 degrees",
        11: "negative",
    }


def test_letters_near_the_border_and_corners_go_and_the_chest_stays() -> None:
    # Markers lie beside the patient, where it is dark.
    film = 0.6 * _grey(4, 1000, 900)
    marked = film.copy()
    # An "L", and "PORTABLE" as eight strokes.
    marked[60:120, 780:792] = marked[108:120, 780:820] = 1
    for letter in range(8):
        marked[60:95, 120 + 20 * letter : 126 + 20 * letter] = 1
    cleaned = without_burned_in(marked, corners=0.08)
    assert cleaned.dtype == np.float32
    assert film[55:125].max() < 0.6
    assert cleaned[60:120, 780:820].max() < 0.65 and cleaned[60:95, 120:266].max() < 0.65
    # The corners: nothing of them is left to be seen.
    other = marked.copy()
    other[:70, :70], other[-70:, -70:] = 0.1, 0.9
    assert np.array_equal(without_burned_in(other, 0.08)[:60, :60] == 0.1, np.zeros((60, 60), bool))
    inside = np.s_[250:800, 220:680]
    assert np.array_equal(cleaned[inside], film[inside])
    assert np.array_equal(without_burned_in(marked, 0.08), cleaned)
