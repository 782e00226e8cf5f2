"""CheXpert: 224,316 radiographs of Stanford with labels out of reports; people read its validation and test sets."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from schemas.errors import SourceError
from training.sources.images import read_image
from training.sources.labels import CHEXPERT, chexpert_labels
from training.sources.source import Sample, Split, view_labels
from training.sources.tables import age_years, read_table, sex_of, view_of

_TABLES: tuple[tuple[str, Split], ...] = (("train.csv", "train"), ("valid.csv", "val"), ("test.csv", "test"))


@dataclass(frozen=True)
class Chexpert:
    """`folder` is CheXpert-v1.0 or CheXpert-v1.0-small: train.csv, valid.csv, train/patientNNNNN/studyN/viewN_*.jpg."""

    folder: Path
    name: str = "chexpert"
    document: str = "https://stanfordmlgroup.github.io/competitions/chexpert/ (Irvin et al., AAAI 2019)"
    verified: bool = False

    def __iter__(self) -> Iterator[Sample]:
        tables = [(self.folder / name, split) for name, split in _TABLES if (self.folder / name).is_file()]
        if not tables:
            raise SourceError(f"{self.folder} has no train.csv or valid.csv; give the folder CheXpert-v1.0.")
        for table, split in tables:
            for row in read_table(table, ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT]):
                yield from self._sample(row, split)

    def _sample(self, row: Mapping[str, str], split: Split) -> Iterator[Sample]:
        # "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg": the first folder is where it was unpacked once.
        match = re.search(r"(?:^|/)((?:train|valid|test)/(patient\d+)/.+)$", row["Path"])
        if match is None:
            raise SourceError(f"{self.folder}: the path {row['Path']} is not train/patientNNNNN/... as published.")
        path = self.folder / match[1]
        if not path.is_file():
            return
        view = "LL" if row["Frontal/Lateral"] == "Lateral" else view_of(row["AP/PA"])
        yield Sample(
            source=self.name,
            key=match[1],
            patient=match[2],
            licence="Stanford University Dataset Research Use Agreement",
            read=partial(read_image, path),
            path=path,
            labels=chexpert_labels(row) | view_labels(view),
            view=view,
            age_years=age_years(row["Age"]),
            sex=sex_of(row["Sex"]),
            split=split,
        )
