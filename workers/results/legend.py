"""The words on an overlay: flags, findings with their scores, and the notice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from node.results.foremost import counted, foremost, tubes_first
from node.results.score_words import score_number
from schemas.result import FindingResult, ImageResult, TubeResult
from workers.results.brush import AMBER, GREY, WHITE, Brush, Colour
from workers.results.source import Mask

_BLACK: Colour = (0, 0, 0)
_OPACITY = 0.75
#: Of a line's height.
_LEADING = 1.4
_PADDING = 0.7
#: Of findings, that of the uncounted rest included.
_LINES = 10


@dataclass(frozen=True)
class Line:
    """One line of the legend."""

    text: str
    colour: Colour
    #: The score; what is said of a tube's position has none.
    value: str = ""
    #: A disc before it, for what is present and no matter of course; a ring before any other line with a value.
    marked: bool = False
    #: Dark letters on a ground of `colour`.
    is_flag: bool = False


def draw_legend(brush: Brush, result: ImageResult, flags: Sequence[Line], model: str, avoid: Sequence[Mask]) -> None:
    """A panel in the corner that hides the least of `avoid`, masks of the image's size.

    `flags` are the lines that come first, `model` is the last, where it is given. It never grows over half of the
    image: what has no room is counted.
    """
    size = brush.text_size
    fitting = int((brush.rows / 2 / size - 2 * _PADDING) / _LEADING)
    room = max(2, min(_LINES, fitting - len(flags) - len(result.tubes) - bool(model)))
    lines = [
        *flags,
        *(_scored(tube.device.code.meaning, tube, tube.present) for tube in tubes_first(result.tubes)),
        *finding_lines(result.findings, room),
        *([Line(model, GREY)] if model else []),
    ]
    if not lines:
        return
    scored_width = max((brush.text_width(f"{line.text}  {line.value}") for line in lines if line.value), default=0.0)
    flag_width = max((brush.text_width(line.text) for line in lines if not line.value), default=0.0)
    width = 2 * _PADDING * size + max(scored_width + 1.4 * size, flag_width)
    height = (len(lines) * _LEADING + 2 * _PADDING) * size
    left, top = _corner(brush, width, height, avoid)
    brush.panel((left, top, left + width, top + height), _BLACK, _OPACITY)
    for number, line in enumerate(lines):
        middle = top + (_PADDING + (number + 0.5) * _LEADING) * size
        _draw_line(brush, line, left, middle, width)


def draw_notice(brush: Brush, notice: str) -> None:
    """`notice` at the foot of the image; nothing when there is none."""
    if not notice:
        return
    size = brush.text_size
    half = brush.text_width(notice) / 2 + _PADDING * size
    x, y = brush.columns / 2, brush.rows - 1.6 * size
    brush.panel((x - half, y - 0.85 * size, x + half, y + 0.85 * size), _BLACK, _OPACITY)
    brush.text((x, y), notice, AMBER, anchor="mm", halo=False)


def finding_lines(findings: Sequence[FindingResult], room: int) -> list[Line]:
    """At most `room` lines: those that come first, and how many more there are."""
    first = foremost(findings)
    # One line less where the rest has to be counted.
    shown = first.shown[: room if len(first.shown) <= room and not first.rest else room - 1]
    rest = [*first.shown[len(shown) :], *first.rest]
    lines = [
        _scored(each.finding.code.meaning, each, bool(each.present) and each.finding.is_pathology) for each in shown
    ]
    return [*lines, Line(f"and {len(rest)} more: {counted(rest)}", GREY)] if rest else lines


def _scored(text: str, result: FindingResult | TubeResult, marked: bool) -> Line:
    value = score_number(result)
    if result.present is None:
        value += " undetermined"
    return Line(text, WHITE if result.present else GREY, value, marked)


def _draw_line(brush: Brush, line: Line, left: float, middle: float, width: float) -> None:
    size = brush.text_size
    if line.is_flag:
        inset, half = 0.35 * size, 0.66 * size
        brush.panel((left + inset, middle - half, left + width - inset, middle + half), line.colour, 0.9)
    if not line.value:
        brush.text((left + _PADDING * size, middle), line.text, _BLACK if line.is_flag else line.colour, halo=False)
        return
    # A disc for what was found, a ring for what was not: not by colour alone.
    mark = AMBER if line.marked else GREY
    brush.ring((left + (_PADDING + 0.3) * size, middle), 0.27 * size, mark, brush.line_width, filled=line.marked)
    brush.text((left + (_PADDING + 1.0) * size, middle), line.text, line.colour, halo=False)
    brush.text((left + width - _PADDING * size, middle), line.value, line.colour, anchor="rm", halo=False)


def _corner(brush: Brush, width: float, height: float, avoid: Sequence[Mask]) -> tuple[float, float]:
    """Left and top of the panel in the corner where it covers the fewest pixels of `avoid`; the upper left at a tie."""
    gap = 0.8 * brush.text_size
    right, bottom = max(0.0, brush.columns - width - gap), max(0.0, brush.rows - height - gap)
    corners = [(gap, gap), (right, gap), (gap, bottom), (right, bottom)]

    def hidden(corner: tuple[float, float]) -> int:
        left, top = int(corner[0]), int(corner[1])
        window = np.s_[top : top + int(height), left : left + int(width)]
        return sum(int(np.count_nonzero(mask[window])) for mask in avoid)

    return min(corners, key=hidden)
