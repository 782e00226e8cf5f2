"""A contact sheet: many phantoms on one picture, what was drawn in words above each. Called by `chexnode phantom`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.phantom.truth import Phantom

_COLUMNS = 4
_WORDS = 30
_SIDE = 480
#: Of a line, so that it ends beside its neighbour.
_LETTERS = 78


@dataclass(frozen=True, eq=False)
class SheetEntry:
    """One film of the sheet."""

    #: 8-bit grey, at most _SIDE pixels wide and high.
    picture: Image.Image
    #: One or two lines.
    words: str


def sheet_entries(phantom: Phantom) -> list[SheetEntry]:
    """The film and its twins, as small as the sheet shows them."""
    films = (
        (phantom.image, _words(phantom)),
        (phantom.bone_free, f"{phantom.seed}: without bones"),
        (phantom.nodule_free, f"{phantom.seed}: without nodules"),
    )
    entries = []
    for film, words in films:
        if film is not None:
            picture = as_picture(film)
            picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            entries.append(SheetEntry(picture, words))
    return entries


def save_contact_sheet(entries: Sequence[SheetEntry], path: Path) -> None:
    """Write a PNG of at least one entry."""
    rows = -(-len(entries) // _COLUMNS)
    sheet = Image.new("L", (min(_COLUMNS, len(entries)) * _SIDE, rows * (_SIDE + _WORDS)))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for number, entry in enumerate(entries):
        x, y = number % _COLUMNS * _SIDE, number // _COLUMNS * (_SIDE + _WORDS)
        sheet.paste(entry.picture, (x, y + _WORDS))
        words = "\n".join(line[:_LETTERS] for line in entry.words.splitlines())
        draw.multiline_text((x + 3, y + 2), words, fill=255, font=font, spacing=2)
    sheet.save(path)


def as_picture(film: NDArray[np.float32]) -> Image.Image:
    """8-bit grey from values in 0..1."""
    return Image.fromarray(np.round(np.clip(film, 0, 1) * 255).astype(np.uint8))


def _words(phantom: Phantom) -> str:
    findings = ", ".join(sorted(finding.value for finding in phantom.findings)) or "no finding"
    devices = ", ".join(dict.fromkeys(device.kind.value for device in phantom.devices)) or "no device"
    return f"{phantom.seed} {phantom.view.value} {phantom.age_years:.0f} years: {findings}\n{devices}"
