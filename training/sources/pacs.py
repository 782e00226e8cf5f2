"""Radiographs out of the PACS: found by QIDO-RS, fetched by WADO-RS, de-identified on the way into a folder.

The folder has the layout of training/sources/folder.py. Called by `chexnode train curate --source pacs=...`.
"""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset, dcmread
from rich.progress import Progress

from node.delivery.stow import dicomweb_client
from node.intake.attributes import text
from node.intake.routing import Route, RouteReason, route
from node.intake.view_position import View
from schemas.errors import PeerError, SourceError
from schemas.settings import OrthancDestination
from training.sources.deidentify import Pseudonyms, deidentified
from training.sources.folder import COLUMNS
from training.sources.tables import read_table
from training.sources.writing import write_whole

#: Series that may hold chest radiographs.
_MODALITIES = ("DX", "CR")
#: What a table of labels may name images by, the most particular first.
IDENTIFIERS = ("sop_instance_uid", "study_instance_uid", "accession_number")
_LEFT_OUT = "left-out.csv"
_SHORTEST_KEY = 16


@dataclass(frozen=True)
class Fetched:
    """What a PACS gave."""

    #: Images in the folder, those of earlier runs included.
    images: int
    #: How many were left out, by reason.
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class _Found:
    """An instance as QIDO names it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    accession_number: str


def read_key(path: Path) -> bytes:
    """The secret that pseudonyms are made with. Raises SourceError when it is absent or short."""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise SourceError(
            f"The key file {path} cannot be read ({error.strerror}). Make one with: "
            f"(umask 077; head -c 32 /dev/urandom | base64 > {path}) and keep it inside the department."
        ) from error
    if len(key) < _SHORTEST_KEY:
        raise SourceError(f"The key in {path} has {len(key)} bytes; at least {_SHORTEST_KEY} are needed.")
    return key


def fetch(
    pacs: OrthancDestination,
    folder: Path,
    pseudonyms: Pseudonyms,
    progress: Progress,
    *,
    dates: str = "",
    labels: Path | None = None,
) -> Fetched:
    """Bring the frontal chest radiographs of the PACS into `folder`, de-identified; what is there is not fetched again.

    Parameters
    ----------
    dates
        Study Dates as in a query (PS3.4 C.2.2.2.5), for example 20250101-20251231; "" for all.
    labels
        A CSV file with one column of `IDENTIFIERS` and one per target. It stays where it is: only the pseudonyms and
        the targets are written.

    Left out are images that routing sets aside (no frontal chest radiograph) and those that declare text burned into
    their pixels. Raises PeerError when the PACS does not answer, SourceError when the labels cannot be read.
    """
    known = _Labels(labels)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    left_out = _read_left_out(folder)
    client = dicomweb_client(pacs)
    rows: list[dict[str, str]] = []
    try:
        found = _instances(client, dates, progress)
        task = progress.add_task(f"Fetching from {pacs.name}", total=len(found))
        for each in found:
            name = f"{pseudonyms.of('instance', each.sop_instance_uid)}.dcm"
            if name not in left_out and not (images / name).exists():
                reason = _fetch_one(client, each, images / name, pseudonyms)
                if reason:
                    left_out[name] = reason
                    _write_left_out(folder, left_out)
            if name not in left_out:
                rows.append(_row(images / name, known.of(each)))
            progress.advance(task)
    except requests.RequestException as error:
        raise PeerError(f"{pacs.url} did not answer as a DICOMweb server does ({error}).") from error
    _write_labels(folder, rows, known.targets)
    return Fetched(len(rows), Counter(left_out.values()))


class _Labels:
    """The table of labels, looked up by whatever it names images by."""

    def __init__(self, path: Path | None) -> None:
        self._by: dict[str, dict[str, str]] = {}
        self._identifier, self.targets = "", list[str]()
        if path is None:
            return
        rows = read_table(path, [])
        columns = list(rows[0]) if rows else []
        self._identifier = next((name for name in IDENTIFIERS if name in columns), "")
        if not self._identifier:
            raise SourceError(f"{path} has none of the columns {', '.join(IDENTIFIERS)}, so nothing says whose labels.")
        self.targets = [column for column in columns if column not in IDENTIFIERS]
        self._by = {row[self._identifier]: {target: row[target] for target in self.targets} for row in rows}

    def of(self, found: _Found) -> Mapping[str, str]:
        return self._by.get(getattr(found, self._identifier), {}) if self._identifier else {}


def _instances(client: DICOMwebClient, dates: str, progress: Progress) -> list[_Found]:
    """Every instance of every series that may hold chest radiographs, in a stable order."""
    found = []
    for modality in _MODALITIES:
        filters = {"Modality": modality} | ({"StudyDate": dates} if dates else {})
        series = [
            Dataset.from_json(item)
            for item in client.search_for_series(
                search_filters=filters, fields=["AccessionNumber", "StudyInstanceUID"], get_remaining=True
            )
        ]
        task = progress.add_task(f"Asking for {modality}", total=len(series))
        for header in series:
            # UIDs as they are: `text` is for what is compared.
            study, uid = str(header.StudyInstanceUID), str(header.SeriesInstanceUID)
            for item in client.search_for_instances(study, uid, get_remaining=True):
                instance = str(Dataset.from_json(item).SOPInstanceUID)
                found.append(_Found(study, uid, instance, str(header.get("AccessionNumber", "") or "")))
            progress.advance(task)
    return sorted(set(found), key=lambda each: each.sop_instance_uid)


def _fetch_one(client: DICOMwebClient, found: _Found, target: Path, pseudonyms: Pseudonyms) -> str:
    """Fetch, check, de-identify and write one image; why it is left out, or ""."""
    image = client.retrieve_instance(
        found.study_instance_uid,
        found.series_instance_uid,
        found.sop_instance_uid,
        # As it is stored: another transfer syntax could be a lossy one.
        media_types=(("application/dicom", "*"),),
    )
    routed = _routed(image)
    if routed.view is None:
        return routed.reason.value
    if text(image, "BurnedInAnnotation") == "YES":
        return "burned_in_annotation"
    kept = deidentified(image, pseudonyms, routed.age_years)
    # It may have been said by a description, which is gone.
    kept.ViewPosition = routed.view.value if routed.view in (View.PA, View.AP) else ""
    content = BytesIO()
    kept.save_as(content, enforce_file_format=True)
    write_whole(target, content.getvalue())
    return ""


def _routed(image: Dataset) -> Route:
    """As reception would route it: with a view when it is a frontal chest radiograph."""
    header = Dataset({element.tag: element for element in image if element.tag.group < 0x7FE0})
    header.file_meta = image.file_meta
    routed = route(header, [], has_pixel_data=bool(image.get("PixelData")))
    assert routed.view is None or routed.reason is RouteReason.NO_BUNDLE
    return routed


def _row(path: Path, labels: Mapping[str, str]) -> dict[str, str]:
    header = dcmread(path, stop_before_pixels=True)
    return {
        "file": f"images/{path.name}",
        "patient": str(header.PatientID),
        "view": str(header.get("ViewPosition", "")),
        "age_years": str(header.get("PatientAge", "")),
        "sex": str(header.get("PatientSex", "")),
        "licence": "local",
        **labels,
    }


def _write_labels(folder: Path, rows: list[dict[str, str]], targets: list[str]) -> None:
    text = StringIO()
    writer = csv.DictWriter(text, [*(column for column in COLUMNS if column != "split"), *targets], restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / "labels.csv", text.getvalue().encode())


def _read_left_out(folder: Path) -> dict[str, str]:
    path = folder / _LEFT_OUT
    if not path.is_file():
        return {}
    return {row["file"]: row["reason"] for row in read_table(path, ["file", "reason"])}


def _write_left_out(folder: Path, left_out: Mapping[str, str]) -> None:
    lines = ["file,reason", *(f"{name},{reason}" for name, reason in left_out.items())]
    write_whole(folder / _LEFT_OUT, ("\n".join(lines) + "\n").encode())
