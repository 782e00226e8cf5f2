"""The manifest of a curation: every image with its side of the split or why it is left out, as JSON lines."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import SourceError
from training.sources.source import Sex, Split, View
from training.sources.writing import write_whole

MANIFEST_FILE = "manifest.jsonl"


class CuratedImage(BaseModel):
    """One line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    key: str
    #: Keyed hash of source and patient.
    patient: str
    licence: str
    #: Whom to name for this image; "" where the source as a whole is named.
    attribution: str = ""
    #: Of the pixels (training.curation.fingerprint.Fingerprint); None of an image that could not be read.
    sha256: str | None
    #: Of the low frequencies, to find near duplicates of it elsewhere.
    frequencies: int | None
    rows: int | None
    columns: int | None
    view: View | None
    age_years: float | None
    sex: Sex | None
    #: As the publisher splits.
    published: Split | None
    #: None when it is left out.
    split: Split | None
    #: Why it is left out.
    excluded: str | None
    #: Source and key of the image that it duplicates.
    duplicate_of: str | None = None
    labels: dict[str, float]
    #: By name the hexadecimal SHA-256 of what each mask is made from.
    masks: dict[str, str]


def write_manifest(folder: Path, images: Iterable[CuratedImage]) -> str:
    """Write the manifest; returns its digest, the hexadecimal SHA-256 of the file."""
    content = "".join(f"{image.model_dump_json()}\n" for image in images).encode()
    write_whole(folder / MANIFEST_FILE, content)
    return hashlib.sha256(content).hexdigest()


def read_manifest(path: Path) -> list[CuratedImage]:
    """Read a manifest, or the one in a folder. Raises SourceError when it is absent or damaged."""
    file = path / MANIFEST_FILE if path.is_dir() else path
    try:
        return [CuratedImage.model_validate_json(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise SourceError(f"The manifest {file} cannot be read ({error.strerror}); curate first.") from error
    except ValidationError as error:
        raise SourceError(f"The manifest {file} is damaged or of another version ({error}); curate again.") from error
