"""The overlay shows the result without hiding the image; its Secondary Capture stays small and says what it is."""

import io

import numpy as np
import pytest
from pydicom import dcmread

from schemas.codes import CXR_LT, NOT_FOR_CLINICAL_USE, Finding
from schemas.result import ImageResult
from tests.results.sources import (
    BUNDLE,
    CONTENT_TIME,
    dx_header,
    forty,
    image_result,
    lines,
    masks,
    received,
    refused_result,
    source,
)
from workers.results.equipment import part10_bytes
from workers.results.legend import finding_lines
from workers.results.overlay import draw_overlay
from workers.results.secondary_capture import MAXIMUM_SIDE, build_secondary_capture

MODEL = "a-foundation-model 12.1"


@pytest.mark.parametrize(("rows", "columns"), [(512, 420), (1024, 1024), (2500, 2048), (3000, 2400), (60, 40)])
def test_most_of_the_image_stays_as_it_is(rows: int, columns: int) -> None:
    pixels = np.full((rows, columns), 0.4, dtype=np.float32)
    result = image_result(dx_header(Rows=rows, Columns=columns))
    overlay = draw_overlay(pixels, result, masks(rows, columns), NOT_FOR_CLINICAL_USE, MODEL)
    assert overlay.shape == (rows, columns, 3)
    assert overlay.dtype == np.uint8
    changed = (overlay != 102).any(axis=2)
    assert changed.any()
    if rows > 100:
        assert changed.mean() < 0.16


@pytest.mark.parametrize("operating_point", [None, 0.99])
@pytest.mark.parametrize(("rows", "columns"), [(256, 256), (1024, 840), (2500, 2048)])
def test_the_legend_of_forty_findings_leaves_half_of_the_image_free(
    rows: int, columns: int, operating_point: float | None
) -> None:
    pixels = np.full((rows, columns), 0.4, dtype=np.float32)
    every = forty(list(Finding)[:12], operating_point)
    result = image_result(dx_header(Rows=rows, Columns=columns)).model_copy(update={"findings": every})
    changed = (draw_overlay(pixels, result, {}, "", MODEL) != 102).any(axis=2)
    legend_rows = changed[:, : columns // 3].any(axis=1)
    # It fits into the picture, with a margin all around.
    assert not changed[0, : columns // 3].any() and not changed[-1].any()
    assert 0.1 < legend_rows.mean() <= 0.55


def test_what_has_no_room_in_the_legend_is_counted() -> None:
    undetermined = [line.text for line in finding_lines(forty(), 10)]
    assert undetermined == [
        "Hydropneumothorax",
        "Pulmonary infarction",
        "Pneumomediastinum",
        "and 37 more: undetermined",
    ]
    present = finding_lines(forty([Finding.NORMAL, Finding.PNEUMOTHORAX], 0.5), 4)
    assert [line.text for line in present] == ["Pneumothorax", "Normal", "Lymphadenopathy", "and 37 more: absent"]
    assert [line.marked for line in present] == [True, False, False, False]
    assert [line.value for line in present] == ["0.95", "0.95", "0.40", ""]
    assert [line.text for line in finding_lines([*forty()[:6], *forty(CXR_LT)[6:18]], 10)][-1] == (
        "and 9 more: 3 present, 6 undetermined"
    )
    assert len(finding_lines(forty()[:5], 10)) == 5


def test_tip_and_course_are_where_the_result_has_them() -> None:
    pixels = np.zeros((1000, 800), dtype=np.float32)
    result = image_result(dx_header(Rows=1000, Columns=800))
    overlay = draw_overlay(pixels, result, {}, "", "")
    assert overlay[100, 395:405].max() > 100
    assert overlay[340:380, 380:420].max() > 100
    assert overlay[600:].max() == 0


def test_every_line_is_drawn_in_its_own_colour_and_a_refusal_in_words() -> None:
    pixels = np.zeros((1000, 800), dtype=np.float32)
    header = dx_header(Rows=1000, Columns=800)
    overlay = draw_overlay(pixels, image_result(header, tubes=lines(1000, 800)), {}, "", "")
    feeding, catheter = overlay[600, 410:422].astype(int), overlay[245:255, 98:102].reshape(-1, 3).astype(int)
    assert (feeding[:, 0] - feeding[:, 1]).max() > 50, "pink"
    assert (catheter[:, 2] - catheter[:, 0]).max() > 50, "cyan"
    nothing = draw_overlay(pixels, refused_result(header), {}, "", "")
    assert (nothing[..., 0].astype(int) - nothing[..., 2]).max() > 80, "a flag in amber"
    assert nothing.any(axis=2).mean() < 0.05


EMPTY = ImageResult(sop_instance_uid="1.2", rows=256, columns=256, findings=[], tubes=[], segments=[])


def test_an_empty_result_leaves_the_image_alone() -> None:
    pixels = np.linspace(0, 1, 256 * 256, dtype=np.float32).reshape(256, 256)
    overlay = draw_overlay(pixels, EMPTY, {}, "", "")
    assert np.array_equal(overlay[:, :, 0], (pixels * 255).round().astype(np.uint8))


def test_the_pixels_name_the_model_also_where_it_says_nothing() -> None:
    pixels = np.zeros((256, 256), dtype=np.float32)
    ink = {model: int((draw_overlay(pixels, EMPTY, {}, "", model) > 100).sum()) for model in ("", "a 1", MODEL)}
    assert 0 == ink[""] < ink["a 1"] < ink[MODEL]


def test_the_secondary_capture_is_small_and_refers_to_its_image() -> None:
    image = source(received(dx_header(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Eva")))
    overlay = np.zeros((2500, 2048, 3), dtype=np.uint8)
    content = part10_bytes(build_secondary_capture(image, overlay, BUNDLE, CONTENT_TIME))
    assert content == part10_bytes(build_secondary_capture(image, overlay, BUNDLE, CONTENT_TIME))
    capture = dcmread(io.BytesIO(content))
    assert (capture.Rows, capture.Columns) == (MAXIMUM_SIDE, 839)
    assert capture.pixel_array.shape == (1024, 839, 3)
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == image.header.SOPInstanceUID
    assert capture.SeriesDescription.endswith("not for clinical use")
    assert "PixelSpacing" not in capture
    assert str(capture.PatientName) == "Müller^Eva"
