"""From published label names to the targets of the vocabulary. Used by the adapters of label sets that others share."""

from collections.abc import Iterable, Mapping

from schemas.codes import Finding
from training.sources.tables import number

#: The fourteen labels of ChestX-ray14 (Wang et al., CVPR 2017); "No Finding" is said when none of them holds.
CHESTXRAY14: dict[str, Finding] = {
    "Atelectasis": Finding.ATELECTASIS,
    "Cardiomegaly": Finding.CARDIOMEGALY,
    "Consolidation": Finding.CONSOLIDATION,
    "Edema": Finding.EDEMA,
    "Effusion": Finding.PLEURAL_EFFUSION,
    "Emphysema": Finding.EMPHYSEMA,
    "Fibrosis": Finding.FIBROSIS,
    "Hernia": Finding.HERNIA,
    "Infiltration": Finding.INFILTRATION,
    "Mass": Finding.MASS,
    "Nodule": Finding.NODULE,
    "Pleural_Thickening": Finding.PLEURAL_THICKENING,
    "Pneumonia": Finding.PNEUMONIA,
    "Pneumothorax": Finding.PNEUMOTHORAX,
}

#: The labels of the CheXpert labeller (Irvin et al., AAAI 2019) but "No Finding", in CheXpert and in MIMIC-CXR-JPG.
CHEXPERT: dict[str, Finding] = {
    "Atelectasis": Finding.ATELECTASIS,
    "Cardiomegaly": Finding.CARDIOMEGALY,
    "Consolidation": Finding.CONSOLIDATION,
    "Edema": Finding.EDEMA,
    "Enlarged Cardiomediastinum": Finding.ENLARGED_CARDIOMEDIASTINUM,
    "Fracture": Finding.FRACTURE,
    "Lung Lesion": Finding.LUNG_LESION,
    "Lung Opacity": Finding.LUNG_OPACITY,
    "Pleural Effusion": Finding.PLEURAL_EFFUSION,
    "Pleural Other": Finding.PLEURAL_OTHER,
    "Pneumonia": Finding.PNEUMONIA,
    "Pneumothorax": Finding.PNEUMOTHORAX,
    "Support Devices": Finding.SUPPORT_DEVICES,
}


def chestxray14_labels(names: Iterable[str]) -> dict[str, float]:
    """Of all fourteen whether they are among `names`, as the publisher reads them: what is not named is absent."""
    named = set(names)
    labels = {finding.value: float(name in named) for name, finding in CHESTXRAY14.items()}
    return labels | {Finding.NORMAL.value: float("No Finding" in named)}


def chexpert_labels(row: Mapping[str, str]) -> dict[str, float]:
    """Of a row of the labeller's table: 1 present, 0 absent; -1 (uncertain) and blank (not mentioned) are unknown.

    Where "No Finding" holds, what is not mentioned is absent; a support device may be there nevertheless.
    """
    healthy = number(row.get("No Finding", "")) == 1.0
    labels = {}
    for name, finding in CHEXPERT.items():
        value = number(row.get(name, ""))
        if value in (0.0, 1.0):
            labels[finding.value] = value
        elif healthy and value is None and finding is not Finding.SUPPORT_DEVICES:
            labels[finding.value] = 0.0
    if healthy:
        labels[Finding.NORMAL.value] = 1.0
    elif any(labels.get(finding.value) == 1.0 for finding in CHEXPERT.values() if finding.is_pathology):
        labels[Finding.NORMAL.value] = 0.0
    return labels
