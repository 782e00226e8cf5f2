"""The picture of a result: the radiograph with outlines, tubes, landmarks, legend and notice.

Anatomy stays visible: thin outlines, no fills, open markers, and the legend where the least of the chest is.
"""

from collections.abc import Mapping

import numpy as np
from highdicom.color import CIELabColor
from numpy.typing import NDArray
from PIL import Image

from node.results.foremost import tubes_first
from node.results.tube_words import distance_words, length_words, short_name
from schemas.codes import Device, DistanceBasis, Segment, TubePosition
from schemas.result import ImageResult, Point, TubeResult
from workers.results.brush import AMBER, GREEN, GREY, RED, WHITE, Brush, Colour, outline
from workers.results.legend import Line, draw_legend, draw_notice
from workers.results.source import Mask

POSITION_COLOURS: Mapping[TubePosition | None, Colour] = {
    TubePosition.ABNORMAL: RED,
    TubePosition.BORDERLINE: AMBER,
    TubePosition.NORMAL: GREEN,
    TubePosition.INCOMPLETELY_IMAGED: GREY,
    None: GREY,
}
_BASES = {
    DistanceBasis.CALIBRATED: "",
    DistanceBasis.MAGNIFICATION_CORRECTED: " (magnification corrected)",
    DistanceBasis.DETECTOR_PLANE: " (detector plane)",
    DistanceBasis.NONE: " (no scale)",
}


def draw_overlay(
    pixels: NDArray[np.float32], result: ImageResult, masks: Mapping[Segment, Mask], notice: str, model: str
) -> NDArray[np.uint8]:
    """`result` drawn over `pixels`, float32 [rows, columns], 0..1, MONOCHROME2 sense; uint8 [rows, columns, 3].

    `model` names who says it, in the legend: of one study several bundles may have made a picture each.
    """
    rows, columns = pixels.shape
    grey = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
    image = Image.fromarray(grey).convert("RGB")
    brush = Brush.over(rows, columns)
    outlined = [segment for segment in Segment if segment in masks and masks[segment].any()]
    for segment in outlined:
        # The course shows a tube better than its outline.
        if not any(tube.course for tube in result.tubes if tube.device is segment.device):
            outline(image, masks[segment], colour_of(segment), brush.line_width)
    tubes = tubes_first(result.tubes)
    flags = [Line(f"Not analysed: {result.refused}", AMBER, is_flag=True)] if result.refused else []
    flags += [flag for tube in tubes if tube.present for flag in _flags(tube)]
    draw_legend(brush, result, flags, model, avoid=[masks[segment] for segment in outlined])
    for tube in tubes:
        if tube.present:
            _draw_tube(brush, tube)
    draw_notice(brush, notice)
    return np.asarray(brush.on(image))


def colour_of(segment: Segment) -> Colour:
    """The colour that the Segmentation recommends, as sRGB."""
    red, green, blue = CIELabColor(*segment.cielab).to_rgb(clip=True)
    return int(red), int(green), int(blue)


def _flags(tube: TubeResult) -> list[Line]:
    """Position of the tube, and how far its tip lies from the carina; without a scale only on which side."""
    colour = POSITION_COLOURS[tube.position]
    flags = []
    if tube.position is not None:
        position = tube.position.value.replace("_", " ")
        flags.append(
            Line(f"{tube.device.code.meaning}: {position}", colour, is_flag=tube.position.category is not None)
        )
    if tube.tip is None:
        flags.append(Line(f"{short_name(tube.device)} tip not located", colour))
    elif tube.carina is None and tube.device is Device.ENDOTRACHEAL_TUBE:
        flags.append(Line("Carina not located", colour))
    if (distance := tube.tip_to_carina) is not None:
        # A range says what the basis lacks.
        basis = _BASES[distance.basis] if distance.lowest_millimetres is None else ""
        flags.append(Line(f"Tip {distance_words(distance)}{basis}", colour))
    return flags


def _draw_tube(brush: Brush, tube: TubeResult) -> None:
    width = brush.line_width
    colour = POSITION_COLOURS[tube.position]
    if len(tube.course) > 1:
        brush.lines([_at(point) for point in tube.course], colour_of(tube.device.segment), width, opacity=0.85)
    radius = brush.text_size * 0.45
    if tube.tip and tube.carina:
        _draw_distance(brush, tube, tube.tip, tube.carina, colour)
    if tube.tip:
        brush.ring(_at(tube.tip), radius, colour, width * 1.5)
    if tube.carina:
        # Like the carina itself: an angle open downwards, its apex on the point.
        x, y = _at(tube.carina)
        brush.lines([(x - radius, y + radius), (x, y), (x + radius, y + radius)], WHITE, width * 1.5)


def _draw_distance(brush: Brush, tube: TubeResult, tip: Point, carina: Point, colour: Colour) -> None:
    """A dimension line beside the trachea: levels of tip and carina, and how far they are apart."""
    size = brush.text_size
    right = min(max(tip.x, carina.x) + 1.6 * size, brush.columns - 1)
    for point in (tip, carina):
        brush.lines([(point.x + 0.6 * size, point.y), (right + 0.3 * size, point.y)], colour, brush.line_width * 0.8)
    brush.lines([(right, tip.y), (right, carina.y)], colour, brush.line_width * 0.8)
    if tube.tip_to_carina is not None:
        label = length_words(tube.tip_to_carina) or "no scale"
        x = min(right + 0.5 * size, brush.columns - brush.text_width(label) - 0.3 * size)
        brush.text((x, (tip.y + carina.y) / 2), label, WHITE)


def _at(point: Point) -> tuple[float, float]:
    return point.x, point.y
