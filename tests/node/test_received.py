"""Identity and the three digests of a received file."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from node.intake.received import Reading, ReceivedFile, read_received
from schemas.errors import IdentityError, NotDicomError
from tests.support.phantoms import write_phantom


def received(path: Path, change: Callable[[Dataset], None] = lambda dataset: None) -> ReceivedFile:
    """What the node reads from the phantom at `path`, written again after `change`."""
    dataset = dcmread(path)
    change(dataset)
    target = path.with_name("changed.dcm")
    dataset.save_as(target)
    return read_received(target)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("received") / "a.dcm"
    write_phantom(path, rows=300, columns=280)
    return path


def test_the_same_file_has_the_same_digests(path: Path) -> None:
    first, second = received(path), received(path)
    assert (first.dataset_digest, first.pixel_digest, first.header_digest) == (
        second.dataset_digest,
        second.pixel_digest,
        second.header_digest,
    )
    assert first.has_pixel_data
    assert first.sop_instance_uid == dcmread(path).SOPInstanceUID


@pytest.mark.parametrize(
    ("keyword", "value", "pixels_change"),
    [
        ("PatientName", "Other^Name", False),
        ("ImagerPixelSpacing", [0.2, 0.2], False),
        ("PhotometricInterpretation", "MONOCHROME1", True),
        ("WindowWidth", 17, True),
        ("PresentationLUTShape", "INVERSE", True),
    ],
)
def test_a_change_is_seen_in_the_digest_that_it_belongs_to(
    path: Path, keyword: str, value: object, pixels_change: bool
) -> None:
    before, after = received(path), received(path, lambda dataset: setattr(dataset, keyword, value))
    assert before.dataset_digest != after.dataset_digest
    assert (before.pixel_digest != after.pixel_digest) == pixels_change
    assert (before.header_digest != after.header_digest) != pixels_change


def test_one_changed_pixel_is_seen(path: Path) -> None:
    def change(dataset: Dataset) -> None:
        pixels = bytearray(dataset.PixelData)
        pixels[1000] ^= 1
        dataset.PixelData = bytes(pixels)

    before, after = received(path), received(path, change)
    assert before.header_digest == after.header_digest
    assert before.pixel_digest != after.pixel_digest


UNCOMPRESSED = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


def write_as(target: Path, path: Path, syntax: str, pixel: int | None) -> None:
    """The phantom at `path` in another transfer syntax, every pixel byte `pixel`; None: without pixels."""
    source = dcmread(path)
    dataset = Dataset(source)
    dataset.file_meta = source.file_meta
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if pixel is None:
        del dataset.PixelData
    else:
        dataset.add_new("PixelData", "OW", bytes([pixel]) * len(source.PixelData))
        # Something after the pixels, as some devices have it.
        dataset.add_new(0xFFFCFFFC, "OB", b"\0" * 10)
    dcmwrite(
        target,
        dataset,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )


@pytest.mark.parametrize("syntax", UNCOMPRESSED)
def test_every_uncompressed_transfer_syntax_is_read(path: Path, syntax: str, tmp_path: Path) -> None:
    target = tmp_path / "syntax.dcm"
    write_as(target, path, syntax, 0)
    found = read_received(target)
    assert found.has_pixel_data
    assert found.transfer_syntax_uid == syntax
    # The pixel digest covers the pixels in every syntax, the deflated one too.
    write_as(target, path, syntax, 1)
    assert read_received(target).pixel_digest != found.pixel_digest


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    syntax=st.sampled_from(UNCOMPRESSED),
    sizes=st.lists(st.integers(0, 200_000) | st.integers(0, 3000), max_size=6),
    pixels=st.booleans(),
)
def test_a_file_that_is_read_while_it_grows_is_found_to_be_the_same(
    path: Path, tmp_path: Path, syntax: str, sizes: list[int], pixels: bool
) -> None:
    whole, growing = tmp_path / "whole.dcm", tmp_path / "growing.dcm"
    write_as(whole, path, syntax, 7 if pixels else None)
    content = whole.read_bytes()
    reading = Reading(growing)
    for size in [*sorted(sizes), len(content)]:
        growing.write_bytes(content[:size])
        if size < len(content):
            reading.advance()
    found, expected = (
        {each.name: getattr(read, each.name) for each in fields(read) if each.name != "path"}
        for read in (reading.finish(), read_received(whole))
    )
    assert found == expected


def test_an_object_without_pixels_is_read_and_says_so(path: Path) -> None:
    def change(dataset: Dataset) -> None:
        del dataset.PixelData

    assert not received(path, change).has_pixel_data


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"])
def test_an_object_that_does_not_identify_itself_is_refused(path: Path, keyword: str) -> None:
    def change(dataset: Dataset) -> None:
        delattr(dataset, keyword)

    with pytest.raises(IdentityError, match=keyword):
        received(path, change)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_but_never_crashes(path: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes()[:6000])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    target = tmp_path / "damaged.dcm"
    target.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert len(read_received(target).dataset_digest) == 64
    except (NotDicomError, IdentityError) as refused:
        assert str(refused)


@pytest.mark.parametrize("uid", ["..", ".", "1..2", "1.2.a", "1" * 65, "1.2/3"])
def test_what_is_no_uid_never_becomes_part_of_a_path(path: Path, uid: str) -> None:
    with pytest.raises(IdentityError, match="no UID"):
        received(path, lambda dataset: dataset.add_new("StudyInstanceUID", "UI", uid))


def test_a_deflate_bomb_is_refused_without_being_inflated(path: Path, tmp_path: Path) -> None:
    source = dcmread(path)
    source.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset = Dataset(source)
    dataset.file_meta = source.file_meta
    dataset.add_new("PixelData", "OB", b"\0" * (80 << 20))
    target = tmp_path / "bomb.dcm"
    dcmwrite(target, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
    assert target.stat().st_size < 1 << 20
    with pytest.raises(NotDicomError, match="64 MiB"):
        read_received(target)
