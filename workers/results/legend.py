"""The words on an overlay: flags, findings with their scores, and the notice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.result import FindingResult, ImageResult, TubeResult
from workers.results.brush import AMBER, GREY, WHITE, Brush, Colour
from workers.results.source import Mask

_BLACK: Colour = (0, 0, 0)
_OPACITY = 0.75
#: Of a line's height.
_LEADING = 1.4
_PADDING = 0.7


@dataclass(frozen=True)
class Line:
    """One line of the legend."""

    text: str
    colour: Colour
    #: The score; what is said of a tube's position has none.
    value: str = ""
    present: bool = False
    #: Dark letters on a ground of `colour`.
    is_flag: bool = False


def draw_legend(brush: Brush, result: ImageResult, flags: Sequence[Line], avoid: Sequence[Mask]) -> None:
    """A panel in the corner that hides the least of `avoid`, masks of the image's size.

    `flags` are the lines that come first.
    """
    lines = [
        *flags,
        *(_scored(finding.finding.code.meaning, finding) for finding in result.findings),
        *(_scored(tube.device.code.meaning, tube) for tube in result.tubes),
    ]
    if not lines:
        return
    size = brush.text_size
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


def _scored(text: str, result: FindingResult | TubeResult) -> Line:
    # A per cent reads as a probability, so only a calibrated score is one.
    value = f"{result.score:.0%}" if result.calibrated else f"{result.score:.2f}"
    if result.present is None:
        value = "undetermined"
    return Line(text, WHITE if result.present else GREY, value, bool(result.present))


def _draw_line(brush: Brush, line: Line, left: float, middle: float, width: float) -> None:
    size = brush.text_size
    if line.is_flag:
        inset, half = 0.35 * size, 0.66 * size
        brush.panel((left + inset, middle - half, left + width - inset, middle + half), line.colour, 0.9)
    if not line.value:
        brush.text((left + _PADDING * size, middle), line.text, _BLACK if line.is_flag else line.colour, halo=False)
        return
    # A disc for what is present, a ring for what is not: not by colour alone.
    mark = AMBER if line.present else GREY
    brush.ring((left + (_PADDING + 0.3) * size, middle), 0.27 * size, mark, brush.line_width, filled=line.present)
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
