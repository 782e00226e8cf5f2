"""JSRT: 247 films of 12 bits with and without a nodule, with the SCR outlines of lungs, heart and clavicles."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.codes import Finding
from schemas.errors import PixelDataError, SourceError
from schemas.result import Point
from training.sources.masks import FileMask, LungMask
from training.sources.source import Mask, Sample, view_labels
from training.sources.tables import age_years, sex_of

_SIDE = 2048
_HIGHEST = 4095
#: File, subtlety, size in mm, age, sex, x, y; then malignancy, place and diagnosis. Tabs, spaces and commas occur.
_NODULE = re.compile(r"(JPCLN\d{3})\.IMG[\s,]+\d+[\s,]+\d+[\s,]+(\S+?)[\s,]+(male|female)[\s,]+(\d+)[\s,]+(\d+)", re.I)
_NO_NODULE = re.compile(r"(JPCNN\d{3})\.IMG[\s,]+(\S+?)[\s,]+(male|female)", re.I)


@dataclass(frozen=True)
class _Patient:
    age: str
    sex: str
    nodule: Point | None


@dataclass(frozen=True)
class Jsrt:
    """Somewhere below `folder`: *.IMG, CLNDAT_EN.txt, CNNDAT_EN.TXT, and SCR's masks/STRUCTURE/NAME.gif."""

    folder: Path
    name: str = "jsrt"
    document: str = "http://db.jsrt.or.jp/eng.php (Shiraishi et al., 2000); SCR: van Ginneken et al., 2006"
    verified: bool = False

    def __iter__(self) -> Iterator[Sample]:
        films = sorted({path for path in self.folder.rglob("*") if path.suffix.upper() == ".IMG"}, key=lambda p: p.name)
        if not films:
            raise SourceError(f"No JPC*.IMG lies below {self.folder}; give the folder that JSRT was unpacked to.")
        outlines: dict[str, dict[str, Path]] = {}
        for path in sorted(self.folder.rglob("*.gif")):
            outlines.setdefault(path.stem.upper(), {})[path.parent.name.lower()] = path
        patients = self._patients()
        for path in films:
            stem = path.stem.upper()
            known = patients.get(stem)
            yield Sample(
                source=self.name,
                key=stem,
                # One film of each patient was chosen.
                patient=stem,
                licence="research use, registration with JSRT; SCR: research use",
                read=partial(read_jsrt, path),
                path=path,
                labels={Finding.NODULE.value: float(stem.startswith("JPCLN"))} | view_labels("PA"),
                view="PA",
                age_years=age_years(known.age) if known else None,
                sex=sex_of(known.sex) if known else None,
                masks=_masks(outlines.get(stem, {})),
                landmarks={"nodule": known.nodule} if known and known.nodule else {},
            )

    def _patients(self) -> dict[str, _Patient]:
        found = {}
        for path in sorted(self.folder.rglob("C[LN]NDAT_EN.*")):
            text = path.read_text(encoding="utf-8", errors="replace")
            for stem, age, sex, x, y in _NODULE.findall(text):
                found[stem.upper()] = _Patient(age, sex, Point(x=float(x), y=float(y)))
            for stem, age, sex in _NO_NODULE.findall(text):
                found[stem.upper()] = _Patient(age, sex, None)
        return found


def read_jsrt(path: Path) -> NDArray[np.float32]:
    """A film: 2048 x 2048 unsigned big-endian numbers of 12 bits without a header, bones low. Raises PixelDataError."""
    try:
        values = np.fromfile(path, ">u2")
    except OSError as error:
        raise PixelDataError(f"{path} cannot be read ({error}).") from error
    if values.size != _SIDE * _SIDE:
        raise PixelDataError(f"{path} has {values.size} pixels of 2048 x 2048; fetch it again.")
    shown = 1 - values.reshape(_SIDE, _SIDE).astype(np.float32) / _HIGHEST
    return np.clip(shown, 0, 1)


def _masks(outlines: dict[str, Path]) -> dict[str, Mask]:
    masks: dict[str, Mask] = {}
    if "left lung" in outlines and "right lung" in outlines:
        lungs = (outlines["left lung"], outlines["right lung"])
        masks["right_lung"], masks["left_lung"] = LungMask(lungs, right=True), LungMask(lungs, right=False)
    if "heart" in outlines:
        masks["heart"] = FileMask((outlines["heart"],))
    if "left clavicle" in outlines and "right clavicle" in outlines:
        masks["clavicles"] = FileMask((outlines["left clavicle"], outlines["right clavicle"]))
    return masks
