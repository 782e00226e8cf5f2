"""MIMIC-CXR-JPG: 377,110 radiographs of Beth Israel Deaconess with the labels of the CheXpert labeller per study."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.sources.images import read_image
from training.sources.labels import chexpert_labels
from training.sources.source import Sample, view_labels
from training.sources.tables import first_of, read_table, split_of, view_of


@dataclass(frozen=True)
class MimicCxrJpg:
    """`folder` holds files/pNN/pSUBJECT/sSTUDY/DICOM.jpg and mimic-cxr-2.0.0-{metadata,split,chexpert}.csv[.gz]."""

    folder: Path
    name: str = "mimic-cxr-jpg"
    document: str = "https://physionet.org/content/mimic-cxr-jpg/2.1.0/ (Johnson et al., arXiv 1901.07042)"
    verified: bool = False

    def __iter__(self) -> Iterator[Sample]:
        labels = {row["study_id"]: chexpert_labels(row) for row in self._table("chexpert", ["study_id", "No Finding"])}
        splits = {row["dicom_id"]: split_of(row["split"]) for row in self._table("split", ["dicom_id", "split"])}
        for row in self._table("metadata", ["dicom_id", "subject_id", "study_id", "ViewPosition"]):
            subject, study, image = row["subject_id"], row["study_id"], row["dicom_id"]
            path = self.folder / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{image}.jpg"
            if not path.is_file():
                continue
            view = view_of(row["ViewPosition"])
            yield Sample(
                source=self.name,
                key=image,
                patient=subject,
                licence="PhysioNet Credentialed Health Data License 1.5.0",
                read=partial(read_image, path),
                path=path,
                labels=labels.get(study, {}) | view_labels(view),
                view=view,
                split=splits.get(image),
            )

    def _table(self, kind: str, needed: list[str]) -> list[dict[str, str]]:
        name = f"mimic-cxr-2.*-{kind}.csv"
        path = first_of(self.folder, name, f"{name}.gz")
        return read_table(path or self.folder / f"mimic-cxr-2.0.0-{kind}.csv.gz", needed)
