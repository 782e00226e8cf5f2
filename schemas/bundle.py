"""The manifest of a model bundle: everything that routing and a worker need to know without loading a weight.

A bundle is a folder: manifest.json, backbone.safetensors, heads/*.safetensors, card.md, selftest.npz.
"""

import hashlib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.codes import Device, Finding, Landmark, Segment
from schemas.errors import BundleError

MANIFEST_FILE = "manifest.json"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Architecture(_Document):
    """The backbone as `timm.create_model(name, **arguments)` makes it."""

    timm_name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class Preprocessing(_Document):
    """From a float32 image in 0..1, MONOCHROME2 sense, to the network's input [1, size, size]."""

    #: letterbox: the whole image, longer side = size, centred, the rest filled with 0 before normalisation.
    profile: Literal["letterbox"] = "letterbox"
    size: Annotated[int, Field(ge=32, le=2048)]
    mean: float
    std: Annotated[float, Field(gt=0)]


class ScoredClass(_Document):
    """One output of a classification head."""

    #: A finding, or "<device>.presence" / "<device>.malposition".
    target: Finding | Literal["endotracheal_tube.presence", "endotracheal_tube.malposition"]
    #: The score (sigmoid of the logit, 0..1) from which on it is called present. None: the class was no better than
    #: chance on validation data, so that results call it undetermined, neither present nor absent.
    operating_point: Annotated[float, Field(gt=0, lt=1)] | None
    #: True only when scores were calibrated on data from the intended population; then they are probabilities.
    calibrated: bool = False


class GloriHead(_Document):
    """Classification by cross-attention of one query per class (GLoRI, arXiv 2502.05142)."""

    kind: Literal["glori"] = "glori"
    file: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    classes: Annotated[list[ScoredClass], Field(min_length=1)]


class DenseHead(_Document):
    """Per-pixel logits at `stride` input pixels per output pixel: masks (sigmoid) and landmark heat maps."""

    kind: Literal["dense"] = "dense"
    file: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    stride: Annotated[int, Field(ge=1, le=32)]
    channels: Annotated[list[Segment | Landmark], Field(min_length=1)]


class Population(_Document):
    """For whom the model is made; routing enforces it."""

    minimum_age_years: int | None = None
    view_positions: list[Literal["PA", "AP"]] = ["PA", "AP"]
    devices: list[Device] = Field(default_factory=list)


class Metric(_Document):
    """A figure with its data, n and 95 % interval, as an evaluation command printed it."""

    name: str
    value: float
    low: float
    high: float
    n: int
    #: The same figure for the trivial baseline, where there is one.
    baseline: float | None = None


class Manifest(_Document):
    """manifest.json of a bundle."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    version: Annotated[str, Field(max_length=16)]
    created: date
    #: False for everything that the project ships; every surface then says so.
    cleared_for_clinical_use: bool = False
    architecture: Architecture
    backbone_file: str = "backbone.safetensors"
    preprocessing: Preprocessing
    heads: list[Annotated[GloriHead | DenseHead, Field(discriminator="kind")]]
    population: Population
    #: Recipe, data and their hashes, in words and numbers.
    training: dict[str, Any]
    metrics: list[Metric] = Field(default_factory=list)
    licence: str

    @property
    def glori(self) -> GloriHead:
        return next(head for head in self.heads if isinstance(head, GloriHead))

    @property
    def dense(self) -> DenseHead:
        return next(head for head in self.heads if isinstance(head, DenseHead))


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder`/manifest.json. Raises BundleError that names what is wrong."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise BundleError(f"{folder} has no readable {MANIFEST_FILE}: {error.strerror}.") from error
    except ValidationError as error:
        raise BundleError(f"{folder / MANIFEST_FILE}: {error}") from error


def bundle_digest(folder: Path) -> str:
    """SHA-256 (hex) over the relative path and SHA-256 of every file of the bundle, in path order."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def bundle_folder(configured: Path | None) -> Path:
    """The folder of the bundle to serve: the configured one, else the one that is shipped with the package."""
    return configured or Path(__file__).resolve().parent.parent / "workers" / "bundles" / "chexnode-phantom"
