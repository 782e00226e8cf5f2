"""COVIDx: a collection of others' radiographs for COVID-19, with its own lists of training and test images."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from schemas.codes import Finding
from schemas.errors import SourceError
from training.sources.images import read_image
from training.sources.source import Sample, Split

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
#: Of the lists with three classes (A) and those with two (B, CXR-4); "positive" and "negative" speak of COVID-19 alone.
_LABELS = {
    "normal": {Finding.NORMAL.value: 1.0, Finding.PNEUMONIA.value: 0.0, "covid_19": 0.0},
    "pneumonia": {Finding.NORMAL.value: 0.0, Finding.PNEUMONIA.value: 1.0, "covid_19": 0.0},
    "covid-19": {"covid_19": 1.0},
    "positive": {"covid_19": 1.0},
    "negative": {"covid_19": 0.0},
}


@dataclass(frozen=True)
class Covidx:
    """`folder` holds train/, test/ (and val/) and one list of each: train*.txt with patient, file, class, origin."""

    folder: Path
    name: str = "covidx"
    document: str = "https://github.com/lindawangg/COVID-Net/blob/master/docs/COVIDx.md"
    verified: bool = False

    def __iter__(self) -> Iterator[Sample]:
        lists = [(split, self._list(split)) for split in _SPLITS]
        if not any(path for _, path in lists):
            raise SourceError(f"{self.folder} has no train*.txt and test*.txt; see {self.document}.")
        for split, path in lists:
            if path is not None:
                yield from self._samples(split, path)

    def _list(self, split: Split) -> Path | None:
        found = sorted(self.folder.glob(f"{split}*.txt"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise SourceError(f"{self.folder} has several lists ({names}); keep the one of the version that you use.")
        return found[0] if found else None

    def _samples(self, split: Split, path: Path) -> Iterator[Sample]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            # Neither patients nor classes nor origins have spaces; some files do.
            words = line.split()
            if not words:
                continue
            if len(words) < 4 or words[-2].lower() not in _LABELS:
                raise SourceError(f"{path}, line {number}: not 'patient file class origin' with a class of COVIDx.")
            patient, file, label, origin = words[0], " ".join(words[1:-2]), words[-2].lower(), words[-1]
            image = self.folder / split / file
            if not image.is_file():
                continue
            yield Sample(
                source=self.name,
                key=f"{split}/{file}",
                # Numbers of one origin mean nothing in another.
                patient=f"{origin}-{patient}",
                # Each origin has terms of its own.
                licence="",
                read=partial(read_image, image),
                path=image,
                labels=_LABELS[label],
                split=split,
            )
