"""The archive of pictures shows the image as a display would, and evidence and regions where they are."""

from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from time import process_time

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from schemas.bundle import Acceptance
from schemas.codes import Finding, Segment
from schemas.errors import BundleError, ObjectMissingError, PixelDataError
from schemas.pictures import PIXELS, PREVIEW, THUMBNAIL, evidence_name, mask_name
from schemas.result import EngineReference
from schemas.settings import ResultObject, SegmentationGeometry
from tests.pictures.synthetic import (
    GRID,
    MANIFEST,
    PREPROCESSING,
    SIZE,
    TARGETS,
    Drawn,
    drawn,
    hot_patch,
    model_output,
    write_image,
)
from tests.support.phantoms import phantom, write_phantom
from workers.assembly import AssemblyRequest, ImageRequest, assemble
from workers.pictures import PicturesRequest, draw_pictures
from workers.placement import Placement
from workers.results.overlay import colour_of
from workers.results.source import ImageIdentity, ReportIdentity, tracking_keys

REGIONS = {
    Segment.RIGHT_LUNG: (0.1, 0.15, 0.42, 0.8),
    Segment.LEFT_LUNG: (0.58, 0.15, 0.9, 0.8),
    Segment.HEART: (0.35, 0.5, 0.75, 0.85),
    Segment.ENDOTRACHEAL_TUBE: (0.46, 0.0, 0.54, 0.3),
}


def regions(rows: int, columns: int) -> dict[Segment, tuple[float, float, float, float]]:
    return {
        segment: (left * columns, top * rows, right * columns, bottom * rows)
        for segment, (left, top, right, bottom) in REGIONS.items()
    }


def ramp(rows: int, columns: int) -> NDArray[np.float32]:
    """Dark at the top left, bright at the bottom right."""
    return np.add.outer(np.linspace(0, 0.5, rows), np.linspace(0, 0.5, columns)).astype(np.float32)


def draw(path: Path, rows: int, columns: int) -> Drawn:
    placement = Placement.of(rows, columns, PREPROCESSING)
    return drawn(path, model_output(placement, regions=regions(rows, columns)))


def test_equal_input_gives_equal_bytes_and_members_are_stored_as_they_are(tmp_path: Path) -> None:
    write_phantom(tmp_path / "a.dcm", seed=11)
    first, second = (draw(tmp_path / "a.dcm", 512, 512) for _ in range(2))
    assert first.content == second.content
    assert first.stored


def test_the_index_names_every_member_and_what_it_is(tmp_path: Path) -> None:
    write_phantom(tmp_path / "a.dcm", seed=11)
    found = draw(tmp_path / "a.dcm", 512, 512)
    index = found.index
    assert (index.rows, index.columns) == (512, 512)
    assert [each.target for each in index.evidence] == TARGETS
    assert {each.segment for each in index.masks} == set(REGIONS)
    files = {each.file for each in index.evidence} | {each.file for each in index.masks}
    assert set(found.members) == files | {"index.json", THUMBNAIL, PREVIEW, PIXELS}
    with found.image(THUMBNAIL) as thumbnail:
        assert thumbnail.format == "JPEG" and thumbnail.mode == "L" and "progressive" not in thumbnail.info
        assert thumbnail.size == (index.thumbnail.columns, index.thumbnail.rows) == (384, 384)


@pytest.mark.parametrize(("rows", "columns"), [(2048, 1706), (1706, 2048), (1536, 1536), (700, 500), (37, 300)])
def test_pixels_and_preview_show_the_image_as_a_display_would(tmp_path: Path, rows: int, columns: int) -> None:
    image = ramp(rows, columns)
    found = draw(write_image(tmp_path / "a.dcm", image), rows, columns)
    pixels = found.pixels()
    assert max(pixels.shape) == min(1536, max(rows, columns))
    assert pixels.shape[0] / pixels.shape[1] == pytest.approx(rows / columns, rel=0.02)
    expected = np.add.outer(
        (np.arange(pixels.shape[0]) + 0.5) / pixels.shape[0] / 2,
        (np.arange(pixels.shape[1]) + 0.5) / pixels.shape[1] / 2,
    )
    assert np.abs(pixels / 4095 - expected)[2:-2, 2:-2].max() < 0.02
    preview = np.asarray(found.image(PREVIEW))
    assert preview.shape == pixels.shape
    assert np.abs(preview / 255 - pixels / 4095).mean() < 0.01


def test_both_ends_of_the_scale_are_reached(tmp_path: Path) -> None:
    image = np.zeros((400, 300), np.float32)
    image[200:] = 1
    pixels = draw(write_image(tmp_path / "a.dcm", image), 400, 300).pixels()
    assert pixels[:200].max() == 0
    assert pixels[200:].min() == 4095


def test_monochrome1_is_shown_with_bright_bones(tmp_path: Path) -> None:
    image = phantom(11).image
    first, second = (
        draw(write_image(tmp_path / f"{kind}.dcm", image, kind), 512, 512) for kind in ("MONOCHROME1", "MONOCHROME2")
    )
    for name in (THUMBNAIL, PREVIEW):
        difference = np.asarray(first.image(name), int) - np.asarray(second.image(name), int)
        assert np.abs(difference).max() <= 2
    assert np.corrcoef(first.pixels().ravel(), image.ravel())[0, 1] > 0.99


def test_a_constant_image_is_drawn(tmp_path: Path) -> None:
    found = draw(write_image(tmp_path / "a.dcm", np.full((300, 200), 0.5, np.float32)), 300, 200)
    assert np.ptp(found.pixels()) == 0
    assert len(found.index.masks) == 4


def test_a_refused_image_is_drawn_and_nothing_over_it(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.dcm", ramp(300, 200))
    output = model_output(Placement.of(300, 200, PREPROCESSING), regions=regions(300, 200))
    frontal = [scored.target == Acceptance.FRONTAL_CHEST for scored in MANIFEST.classes]
    output = replace(output, logits=np.where(frontal, np.float32(-4), output.logits))
    found = Drawn(draw_pictures(PicturesRequest(path, output.to_bytes(), MANIFEST)))
    assert np.ptp(found.pixels()) > 0
    assert found.index.masks == []
    assert found.index.evidence == []


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (2, 3), (1, 4000), (4000, 1), (7, 3000), (5000, 11), (4300, 4300), (16, 16)]
)
def test_tiny_huge_and_oblong_images_are_drawn(tmp_path: Path, rows: int, columns: int) -> None:
    found = draw(write_image(tmp_path / "a.dcm", ramp(rows, columns)), rows, columns)
    size = found.index.pixels
    assert found.pixels().shape == (size.rows, size.columns)
    assert max(size.rows, size.columns) == min(1536, max(rows, columns))
    assert max(found.image(THUMBNAIL).size) == min(384, max(rows, columns))
    for evidence in found.index.evidence:
        assert max(found.image(evidence.file).size) == 256
        assert 0 <= evidence.at.x <= columns and 0 <= evidence.at.y <= rows
    for mask in found.index.masks:
        assert found.image(mask.file).size == (size.columns, size.rows)


@pytest.mark.parametrize(("rows", "columns", "row", "column"), [(700, 500, 5, 9), (500, 700, 9, 20), (600, 600, 20, 3)])
def test_the_evidence_picture_laid_over_the_image_glows_where_the_head_looked(
    tmp_path: Path, rows: int, columns: int, row: int, column: int
) -> None:
    placement = Placement.of(rows, columns, PREPROCESSING)
    target = TARGETS[2]
    output = model_output(placement, {target: hot_patch(row, column)})
    found = drawn(write_image(tmp_path / "a.dcm", ramp(rows, columns)), output)
    picture = found.rgba(evidence_name(target))
    opacity = picture[..., 3].astype(float)
    y, x = np.nonzero(opacity > 0.8 * opacity.max())
    at = np.array([x.mean() + 0.5, y.mean() + 0.5]) * [columns / picture.shape[1], rows / picture.shape[0]]
    patch = SIZE / GRID
    expected = placement.to_image(np.array([[(column + 0.5) * patch, (row + 0.5) * patch]]))[0]
    assert np.abs(at - expected).max() < 0.01 * max(rows, columns)
    (entry,) = [each for each in found.index.evidence if each.target == target]
    assert (entry.at.x, entry.at.y) == pytest.approx(tuple(expected))
    assert entry.peak == pytest.approx(100, rel=1e-3)
    # Most of the image is left alone, and so is all of it where nothing was in focus.
    assert (opacity == 0).mean() > 0.9
    assert found.rgba(evidence_name(TARGETS[0]))[..., 3].max() == 0


@pytest.mark.parametrize(("rows", "columns"), [(512, 400), (2048, 1706), (700, 1000)])
def test_masks_are_those_of_the_segmentation(tmp_path: Path, rows: int, columns: int) -> None:
    header = write_phantom(tmp_path / "a.dcm", seed=11, rows=rows, columns=columns)
    placement = Placement.of(rows, columns, PREPROCESSING)
    output = model_output(placement, regions=regions(rows, columns))
    found = drawn(tmp_path / "a.dcm", output)
    for segment, mask in segmented(tmp_path / "a.dcm", header, output.to_bytes()).items():
        picture = found.rgba(mask_name(segment))
        (entry,) = [each for each in found.index.masks if each.segment is segment]
        assert entry.colour == "#{:02x}{:02x}{:02x}".format(*colour_of(segment))
        assert {tuple(colour) for colour in picture[picture[..., 3] > 0][:, :3].tolist()} == {colour_of(segment)}
        opacity = picture[..., 3]
        ys = ((np.arange(rows) + 0.5) * opacity.shape[0] / rows).astype(int)
        xs = ((np.arange(columns) + 0.5) * opacity.shape[1] / columns).astype(int)
        shown = opacity[np.ix_(ys, xs)]
        # A line of 2 pixels on the border, a faint fill within, and nothing without.
        wide = 3 * rows // opacity.shape[0] + 3
        inner, outer = eroded(mask, wide), ~eroded(~mask, wide)
        assert shown[inner].size and shown[inner].min() == shown[inner].max() == round(0.08 * 255)
        assert shown[~outer].max() == 0
        line = opacity[opacity.shape[0] * (np.nonzero(mask.any(axis=1))[0].mean().astype(int)) // rows]
        assert 2 <= (line > 200).sum() <= 2 * 3
        assert line.max() == 255


def test_of_a_film_with_bars_masks_and_evidence_lie_where_the_film_does(tmp_path: Path) -> None:
    def barred(dataset: Dataset) -> None:
        film = np.pad(dataset.pixel_array, ((40, 24), (16, 100)), constant_values=4095)
        dataset.Rows, dataset.Columns = film.shape
        dataset.PixelPaddingValue = 4095
        dataset.PixelData = film.tobytes()

    plain = write_phantom(tmp_path / "plain.dcm", seed=11)
    wide = write_phantom(tmp_path / "barred.dcm", seed=11, change=barred)
    output = model_output(Placement.of(512, 512, PREPROCESSING), {TARGETS[0]: hot_patch(5, 7)}, regions(512, 512))
    own = segmented(tmp_path / "plain.dcm", plain, output.to_bytes())
    found = segmented(tmp_path / "barred.dcm", wide, output.to_bytes())
    assert found.keys() == own.keys()
    for segment, mask in own.items():
        np.testing.assert_array_equal(found[segment], np.pad(mask, ((40, 24), (16, 100))))
    first, second = (drawn(tmp_path / name, output).index.evidence[0].at for name in ("plain.dcm", "barred.dcm"))
    assert (second.x - first.x, second.y - first.y) == pytest.approx((16, 40))


def segmented(path: Path, header: Dataset, output: bytes) -> dict[Segment, NDArray[np.bool_]]:
    """The masks of the Segmentation object that the result has."""
    identity = ImageIdentity("2.25.1", "2.25.2", "2.25.3", "2.25.4", dict.fromkeys(tracking_keys(Finding), "2.25.5"))
    request = AssemblyRequest(
        study_instance_uid=header.StudyInstanceUID,
        version=1,
        manifest=MANIFEST,
        bundle_digest="0" * 64,
        engine=EngineReference(device="cpu", precision="float32", software_version="0"),
        images=[ImageRequest(path, header.SOPInstanceUID, output, identity)],
        failed=[],
        report=ReportIdentity("2.25.6", "2.25.7"),
        content_time=datetime(2026, 1, 1),
        geometry=SegmentationGeometry.NONE,
    )
    (built,) = [each for each in assemble(request).objects if each.kind is ResultObject.SEGMENTATION]
    dataset = dcmread(BytesIO(built.content))
    frames = dataset.pixel_array.reshape(-1, header.Rows, header.Columns)
    labels = {segment.code.value: segment for segment in Segment}
    return {
        labels[item.SegmentedPropertyTypeCodeSequence[0].CodeValue]: frames[number] > 0
        for number, item in enumerate(dataset.SegmentSequence)
    }


def eroded(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Pixels whose whole square neighbourhood of `width` pixels, within the image, is in `mask`."""
    padded = np.pad(mask, width, mode="edge")
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1, axis=axis)
        padded = np.asarray(windows.all(axis=-1))
    return padded


def test_broken_input_is_named(tmp_path: Path) -> None:
    def torn(dataset: Dataset) -> None:
        dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]

    write_phantom(tmp_path / "good.dcm", seed=11)
    write_phantom(tmp_path / "torn.dcm", seed=11, change=torn)
    output = model_output(Placement.of(512, 512, PREPROCESSING))
    with pytest.raises(PixelDataError):
        drawn(tmp_path / "torn.dcm", output)
    with pytest.raises(ObjectMissingError):
        drawn(tmp_path / "absent.dcm", output)
    with pytest.raises(ObjectMissingError):
        draw_pictures(PicturesRequest(tmp_path / "good.dcm", b"no output", MANIFEST))
    assert MANIFEST.classifier is not None
    few = MANIFEST.model_copy(
        update={"heads": [MANIFEST.dense, MANIFEST.classifier.model_copy(update={"classes": MANIFEST.classes[:2]})]}
    )
    with pytest.raises(BundleError):
        draw_pictures(PicturesRequest(tmp_path / "good.dcm", output.to_bytes(), few))


def test_an_image_of_usual_size_is_drawn_within_a_fraction_of_a_second_and_small(tmp_path: Path) -> None:
    write_phantom(tmp_path / "a.dcm", seed=11, rows=2048, columns=1706)
    output = model_output(Placement.of(2048, 1706, PREPROCESSING), regions=regions(2048, 1706))
    drawn(tmp_path / "a.dcm", output)
    started = process_time()
    found = drawn(tmp_path / "a.dcm", output)
    # Measured 0.2 s on one core; the bound leaves room for a slow host.
    assert process_time() - started < 1.0
    assert len(found.content) < 3_000_000
