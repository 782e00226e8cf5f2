"""The two tuberculosis sets of the US National Library of Medicine: Montgomery County with lung masks, Shenzhen."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from schemas.codes import Finding
from schemas.errors import SourceError
from training.sources.images import read_image
from training.sources.masks import FileMask, LungMask
from training.sources.source import Mask, Sample, view_labels
from training.sources.tables import age_years, sex_of

#: MCUCXR_0001_0.png, CHNCXR_0327_1.png: number of the patient, then 0 normal or 1 tuberculosis.
_NAME = re.compile(r"((?:MCU|CHN)CXR_\d+)_([01])")


@dataclass(frozen=True)
class Tuberculosis:
    """`folder` is MontgomerySet (CXR_png, ClinicalReadings, ManualMask/{leftMask,rightMask}) or ChinaSet_AllFiles
    (CXR_png, ClinicalReadings; mask/NAME_mask.png where the outlines of Stirenko et al. were added).
    """

    folder: Path
    name: Literal["montgomery", "shenzhen"]
    document: str = "https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html (Jaeger et al., QIMS 4(6), 2014)"
    verified: bool = False

    def __iter__(self) -> Iterator[Sample]:
        films = sorted((self.folder / "CXR_png").glob("*CXR_*.png"))
        if not films:
            raise SourceError(f"{self.folder} has no CXR_png/*.png; give MontgomerySet or ChinaSet_AllFiles.")
        for path in films:
            named = _NAME.fullmatch(path.stem)
            if named is None:
                raise SourceError(f"{path} is not named like MCUCXR_0001_0.png; the name carries the label.")
            reading = self._reading(path.stem)
            age = re.search(r"(\d+)\s*(?:Y|yrs?|years?)", reading)
            sex = re.search(r"\b(female|male|F|M)\b", reading, re.IGNORECASE)
            yield Sample(
                source=self.name,
                key=path.stem,
                patient=named[1],
                licence="not stated; attribution to the National Library of Medicine",
                read=partial(read_image, path),
                path=path,
                labels={Finding.TUBERCULOSIS.value: float(named[2]), Finding.NORMAL.value: 1 - float(named[2])}
                | view_labels("PA"),
                view="PA",
                age_years=age_years(age[1]) if age else None,
                sex=sex_of(sex[1]) if sex else None,
                masks=self._masks(path.stem),
            )

    def _reading(self, stem: str) -> str:
        path = self.folder / "ClinicalReadings" / f"{stem}.txt"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def _masks(self, stem: str) -> dict[str, Mask]:
        manual = self.folder / "ManualMask"
        sides = (manual / "leftMask" / f"{stem}.png", manual / "rightMask" / f"{stem}.png")
        if all(path.is_file() for path in sides):
            return {"right_lung": LungMask(sides, right=True), "left_lung": LungMask(sides, right=False)}
        both = self.folder / "mask" / f"{stem}_mask.png"
        return {"lungs": FileMask((both,))} if both.is_file() else {}
