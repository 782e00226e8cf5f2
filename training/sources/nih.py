"""NIH ChestX-ray14: 112,120 frontal radiographs with fourteen labels mined from reports, some with boxes."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.sources.images import read_image
from training.sources.labels import CHESTXRAY14, chestxray14_labels
from training.sources.masks import BoxMask
from training.sources.source import Mask, Sample, Split, view_labels
from training.sources.tables import age_years, files_by_name, first_of, number, read_table, sex_of, split_of, view_of

#: The published images are squares of this side, and the boxes are in their pixels.
_SIDE = 1024.0


@dataclass(frozen=True)
class ChestXray14:
    """`folder` holds Data_Entry_2017*.csv, images in images/ or images_0NN/images/, train_val_list.txt and
    test_list.txt, BBox_List_2017.csv where it was fetched; or a labels.csv of a subset (file, labels, view, split,
    patient_id, age, sex).
    """

    folder: Path
    name: str = "nih"
    document: str = "https://nihcc.app.box.com/v/ChestXray-NIHCC (Wang et al., CVPR 2017; README_CHESTXRAY.pdf)"

    @property
    def verified(self) -> bool:
        return self._subset_table.is_file()

    @property
    def _subset_table(self) -> Path:
        return self.folder / "labels.csv"

    def __iter__(self) -> Iterator[Sample]:
        if self._subset_table.is_file():
            yield from self._subset()
        else:
            yield from self._published()

    def _subset(self) -> Iterator[Sample]:
        for row in read_table(self._subset_table, ["file", "labels", "view", "split", "patient_id", "age", "sex"]):
            yield self._sample(
                self.folder / row["file"],
                labels=row["labels"],
                view=row["view"],
                patient=row["patient_id"],
                age=row["age"],
                sex=row["sex"],
                split=split_of(row["split"]),
                masks={},
            )

    def _published(self) -> Iterator[Sample]:
        table = first_of(self.folder, "Data_Entry_2017*.csv") or self.folder / "Data_Entry_2017_v2020.csv"
        needed = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position"]
        rows = read_table(table, needed)
        images = files_by_name(self.folder, "images/*.png", "images_*/images/*.png", "images_*/*.png")
        splits = self._splits()
        boxes = self._boxes()
        for row in rows:
            path = images.get(Path(row["Image Index"]).stem)
            # Whoever fetched some of the archives has some of the images.
            if path is None:
                continue
            yield self._sample(
                path,
                labels=row["Finding Labels"],
                view=row["View Position"],
                patient=row["Patient ID"],
                age=row["Patient Age"],
                # "Patient Sex" since 2020.
                sex=row.get("Patient Sex") or row.get("Patient Gender", ""),
                split=splits.get(row["Image Index"]),
                masks=boxes.get(row["Image Index"], {}),
            )

    def _splits(self) -> dict[str, Split]:
        found: dict[str, Split] = {}
        lists: tuple[tuple[str, Split], ...] = (("train_val_list.txt", "train"), ("test_list.txt", "test"))
        for name, split in lists:
            path = self.folder / name
            if path.is_file():
                found.update(dict.fromkeys(path.read_text(encoding="utf-8").split(), split))
        return found

    def _boxes(self) -> dict[str, dict[str, Mask]]:
        """By image and target. The header of the columns x, y, w, h is broken: "Bbox [x", "y", "w", "h]"."""
        path = self.folder / "BBox_List_2017.csv"
        if not path.is_file():
            return {}
        found: defaultdict[str, defaultdict[str, list[tuple[float, float, float, float]]]]
        found = defaultdict(lambda: defaultdict(list))
        # The one name that differs from that of the labels.
        names = {"Infiltrate": "Infiltration"}
        for row in read_table(path, ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"]):
            sides = [number(row[column]) for column in ("Bbox [x", "y", "w", "h]")]
            finding = CHESTXRAY14.get(names.get(row["Finding Label"], row["Finding Label"]))
            if finding is None or None in sides:
                continue
            x, y, w, h = (side / _SIDE for side in sides if side is not None)
            found[row["Image Index"]][finding.value].append((x, y, x + w, y + h))
        return {
            image: {target: BoxMask(tuple(boxes)) for target, boxes in by_target.items()}
            for image, by_target in found.items()
        }

    def _sample(
        self,
        path: Path,
        *,
        labels: str,
        view: str,
        patient: str,
        age: str,
        sex: str,
        split: Split | None,
        masks: dict[str, Mask],
    ) -> Sample:
        position = view_of(view)
        return Sample(
            source=self.name,
            key=path.stem,
            patient=patient,
            licence="no restrictions, attribution to the NIH Clinical Center",
            read=partial(read_image, path),
            path=path,
            labels=chestxray14_labels(labels.split("|")) | view_labels(position),
            view=position,
            age_years=age_years(age),
            sex=sex_of(sex),
            split=split,
            masks=masks,
        )
