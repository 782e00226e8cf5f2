"""Kermany's chest radiographs of children of one to five years: normal, bacterial and viral pneumonia."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from schemas.codes import Finding
from schemas.errors import SourceError
from training.sources.images import read_image
from training.sources.masks import FileMask
from training.sources.source import Sample, Split, view_labels
from training.sources.tables import read_table, split_of

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_CLASSES = ("NORMAL", "PNEUMONIA")
#: There is no table of patients. The same number is taken for the same child whatever stands before or after it, also
#: in another folder: rather one patient too few than one on both sides of a split.
_PATIENT = re.compile(r"(person\d+|IM-\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Kermany:
    """`folder` holds chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}, or is chest_xray, or has a labels.csv.

    labels.csv names a subset with lung masks: columns file, label, split, mask.
    """

    folder: Path
    name: str = "kermany"
    document: str = "https://data.mendeley.com/datasets/rscbjbr9sj (Kermany et al., Cell 172, 2018); masks: V7 Labs"

    @property
    def verified(self) -> bool:
        # Real files have the published names and lie in the subset's folders; the published folders themselves not.
        return self._table.is_file()

    @property
    def _table(self) -> Path:
        return self.folder / "labels.csv"

    def __iter__(self) -> Iterator[Sample]:
        if self._table.is_file():
            yield from self._subset()
        else:
            yield from self._published()

    def _subset(self) -> Iterator[Sample]:
        for row in read_table(self._table, ["file", "label", "split", "mask"]):
            path = self.folder / row["file"]
            mask = FileMask((self.folder / row["mask"],)) if row["mask"] else None
            yield self._sample(path, row["label"], split_of(row["split"]), mask)

    def _published(self) -> Iterator[Sample]:
        root = self.folder / "chest_xray" if (self.folder / "chest_xray").is_dir() else self.folder
        found = False
        for split in _SPLITS:
            for folder in (root / split / name for name in _CLASSES):
                for path in sorted(folder.glob("*.jp*g")):
                    found = True
                    label = "normal" if folder.name == "NORMAL" else path.stem
                    yield self._sample(path, label, split, None)
        if not found:
            raise SourceError(
                f"{self.folder} has neither chest_xray/train/NORMAL/*.jpeg nor labels.csv; "
                "give the folder that the publisher's archive was unpacked to."
            )

    def _sample(self, path: Path, label: str, split: Split | None, mask: FileMask | None) -> Sample:
        patient = _PATIENT.search(path.stem)
        return Sample(
            source=self.name,
            key=path.stem,
            patient=(patient[1] if patient else path.stem).lower(),
            licence="CC BY 4.0",
            read=partial(read_image, path),
            path=path,
            labels=_labels(label) | view_labels("AP"),
            # The publisher says so of all of them.
            view="AP",
            split=split,
            masks={"lungs": mask} if mask else {},
        )


def _labels(label: str) -> dict[str, float]:
    normal = "normal" in label.lower()
    labels = {Finding.NORMAL.value: float(normal), Finding.PNEUMONIA.value: float(not normal)}
    if not normal and ("bacteria" in label or "virus" in label or "viral" in label):
        labels["pneumonia.bacterial"] = float("bacteria" in label)
    return labels
