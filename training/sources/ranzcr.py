"""RANZCR CLiP: radiographs of ChestX-ray14 with catheters and lines labelled anew, some drawn as courses."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from schemas.codes import TubePosition
from schemas.errors import SourceError
from training.sources.images import read_image
from training.sources.source import Course, Sample
from training.sources.tables import number, read_table

#: How the columns name a device, and how the targets do.
_DEVICES = {"ETT": "endotracheal_tube", "NGT": "nasogastric_tube", "CVC": "central_venous_catheter"}
_POSITIONS = {
    "Abnormal": TubePosition.ABNORMAL,
    "Borderline": TubePosition.BORDERLINE,
    "Normal": TubePosition.NORMAL,
    "Incompletely Imaged": TubePosition.INCOMPLETELY_IMAGED,
}
_SWAN_GANZ = "Swan Ganz Catheter Present"
_ARTERY_CATHETER = "pulmonary_artery_catheter"


@dataclass(frozen=True)
class RanzcrClip:
    """`folder` holds train.csv, train/UID.jpg, and train_annotations.csv (StudyInstanceUID, label, data)."""

    folder: Path
    name: str = "ranzcr-clip"
    document: str = (
        "https://www.kaggle.com/c/ranzcr-clip-catheter-line-classification/data (Tang et al., Sci Data 2021)"
    )
    verified: bool = False

    def __iter__(self) -> Iterator[Sample]:
        courses = self._courses()
        columns = [f"{device} - {position}" for device in _DEVICES for position in ("Abnormal", "Borderline", "Normal")]
        for row in read_table(self.folder / "train.csv", ["StudyInstanceUID", "PatientID", _SWAN_GANZ, *columns]):
            uid = row["StudyInstanceUID"]
            path = self.folder / "train" / f"{uid}.jpg"
            if path.is_file():
                yield Sample(
                    source=self.name,
                    key=uid,
                    patient=row["PatientID"],
                    licence="Kaggle competition rules (images: NIH ChestX-ray14)",
                    read=partial(read_image, path),
                    path=path,
                    labels=_labels(row),
                    courses=tuple(courses.get(uid, ())),
                )

    def _courses(self) -> Mapping[str, list[Course]]:
        path = self.folder / "train_annotations.csv"
        found: defaultdict[str, list[Course]] = defaultdict(list)
        if not path.is_file():
            return found
        for row in read_table(path, ["StudyInstanceUID", "label", "data"]):
            kind, _, position = row["label"].partition(" - ")
            device = _ARTERY_CATHETER if row["label"] == _SWAN_GANZ else _DEVICES.get(kind)
            if device is None:
                raise SourceError(f"{path}: the label {row['label']} is not one of the competition.")
            try:
                points = np.asarray(json.loads(row["data"]), np.float32).reshape(-1, 2)
            except ValueError as error:
                raise SourceError(
                    f"{path}: the points of {row['StudyInstanceUID']} are not pairs ({error})."
                ) from error
            found[row["StudyInstanceUID"]].append(Course(device, points, _POSITIONS.get(position)))
        return found


def _labels(row: Mapping[str, str]) -> dict[str, float]:
    """Presence of each device; malposition of those there: abnormal against the rest, as one of them lies worst.

    An incompletely imaged tube has no position: it would be in a place that the image does not show.
    """
    labels = {f"{_ARTERY_CATHETER}.presence": float(number(row[_SWAN_GANZ]) == 1.0)}
    for short, device in _DEVICES.items():
        said = {position for name, position in _POSITIONS.items() if number(row.get(f"{short} - {name}", "")) == 1.0}
        labels[f"{device}.presence"] = float(bool(said))
        if said - {TubePosition.INCOMPLETELY_IMAGED}:
            labels[f"{device}.malposition"] = float(TubePosition.ABNORMAL in said)
    return labels
