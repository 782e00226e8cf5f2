"""ieee8023/covid-chestxray-dataset: radiographs out of publications, each under the licence of its own article."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from schemas.codes import Finding
from training.sources.images import read_image
from training.sources.masks import FileMask
from training.sources.source import Mask, Sample, view_labels
from training.sources.tables import age_years, read_table, sex_of, view_of

#: Germs and syndromes without the word pneumonia; its later versions write "Pneumonia/Viral/COVID-19" and the like.
_PNEUMONIAS = (
    "pneumonia",
    "covid-19",
    "sars",
    "mers",
    "klebsiella",
    "pneumocystis",
    "legionella",
    "influenza",
    "bacterial",
    "mycoplasma",
    "lipoid",
    "e.coli",
    "chlamydophila",
    "streptococcus",
    "varicella",
    "nocardia",
    "aspergillosis",
    "staphylococcus",
    "herpes",
)
#: Structures of the masks of GeneralBlockchain whose name here is another.
_STRUCTURES = {"central_venous_line": "central_venous_catheter", "monitoring_probes": "ecg_leads"}


@dataclass(frozen=True)
class CovidChestxray:
    """`folder` is a clone (metadata.csv, images/), or has a labels.csv of a subset with masks."""

    folder: Path
    name: str = "covid-chestxray"
    document: str = "https://github.com/ieee8023/covid-chestxray-dataset (Cohen et al., arXiv 2003.11597), SCHEMA.md"

    @property
    def verified(self) -> bool:
        return self._subset_table.is_file()

    @property
    def _subset_table(self) -> Path:
        return self.folder / "labels.csv"

    def __iter__(self) -> Iterator[Sample]:
        if self._subset_table.is_file():
            for row in read_table(self._subset_table, ["file", "finding", "view", "patientid", "license"]):
                yield self._sample(self.folder / row["file"], row, self._masks(row))
            return
        for row in read_table(self.folder / "metadata.csv", ["patientid", "finding", "view", "filename", "license"]):
            path = self.folder / (row.get("folder") or "images") / row["filename"]
            # Slices of CT are archives of volumes or pictures of them.
            if row.get("modality", "X-ray") == "X-ray" and row["view"] != "CT" and path.is_file():
                yield self._sample(path, row, {})

    def _masks(self, row: Mapping[str, str]) -> dict[str, Mask]:
        masks: dict[str, Mask] = {}
        if row.get("v7_lung_mask"):
            masks["lungs"] = FileMask((self.folder / row["v7_lung_mask"],))
        for structure in filter(None, row.get("gb_masks", "").split(";")):
            path = self.folder / "masks_gb" / f"{Path(row['file']).stem}__{structure}.png"
            if path.is_file():
                masks[_STRUCTURES.get(structure, structure)] = FileMask((path,))
        return masks

    def _sample(self, path: Path, row: Mapping[str, str], masks: dict[str, Mask]) -> Sample:
        view = view_of(row["view"])
        tube = {"Y": 1.0, "N": 0.0}.get(row.get("intubation_present", ""))
        return Sample(
            source=self.name,
            key=path.stem,
            # Blank in some rows: those are not one patient.
            patient=row["patientid"] or f"unknown-{path.stem}",
            licence=row["license"],
            read=partial(read_image, path),
            path=path,
            labels=_labels(row["finding"])
            | view_labels(view)
            | ({} if tube is None else {"endotracheal_tube.presence": tube}),
            view=view,
            age_years=age_years(row.get("age", "")),
            sex=sex_of(row.get("sex", "")),
            attribution=_attribution(row),
            masks=masks,
        )


def _attribution(row: Mapping[str, str]) -> str:
    """The article that the image is from; whoever wrote it is named there, the table has no authors."""
    doi, url = row.get("doi", "").strip(), row.get("url", "").strip()
    article = f"https://doi.org/{doi.removeprefix('https://doi.org/')}" if doi else url
    return f"{article}, {row['license'] or 'licence not stated'}" if article else ""


def _labels(finding: str) -> dict[str, float]:
    """What the finding says; "todo", "Unknown" and blank say nothing."""
    said = finding.lower()
    if said in ("", "todo", "unknown"):
        return {}
    if said == "no finding":
        return {Finding.NORMAL.value: 1.0, Finding.PNEUMONIA.value: 0.0, Finding.TUBERCULOSIS.value: 0.0}
    labels = {Finding.NORMAL.value: 0.0, "covid_19": float("covid-19" in said)}
    if any(name in said for name in _PNEUMONIAS):
        labels[Finding.PNEUMONIA.value] = 1.0
    if "tuberculosis" in said:
        labels[Finding.TUBERCULOSIS.value] = 1.0
    return labels
