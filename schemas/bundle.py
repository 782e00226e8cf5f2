"""The manifest of a model bundle: everything that routing and a worker need to know without loading a weight.

A bundle is a folder: manifest.json, backbone.safetensors, heads/*.safetensors, card.md, selftest.npz.
"""

import hashlib
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from schemas.codes import Device, Finding, Landmark, Segment
from schemas.errors import BundleError
from schemas.preprocessing import Preprocessing

MANIFEST_FILE = "manifest.json"
#: What published weights are stored as; a folder of such files alone is no bundle yet.
_WEIGHT_SUFFIXES = {".pth", ".pt", ".tar", ".safetensors", ".ckpt", ".bin"}

TubeTarget: TypeAlias = Literal[
    "endotracheal_tube.presence",
    "endotracheal_tube.malposition",
    "nasogastric_tube.presence",
    "nasogastric_tube.malposition",
    "central_venous_catheter.presence",
    "central_venous_catheter.malposition",
]
#: A file of the bundle, and never one outside of it: what the digest does not cover is not loaded.
WeightFile: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^(heads/)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\.safetensors$")
]
OtherTarget: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.]{0,63}$")]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Acceptance(StrEnum):
    """Classes that say what kind of image it is, before anything is said of a patient (workers/acceptance.py).

    An image whose score of FRONTAL_CHEST stays below its operating point is refused; the reason is the highest-scoring
    of the others.
    """

    FRONTAL_CHEST = "acceptance.frontal_chest"
    LATERAL = "acceptance.lateral"
    NOT_CHEST = "acceptance.not_chest"
    TURNED = "acceptance.turned"
    INVERTED = "acceptance.inverted"
    EMPTY = "acceptance.empty"


class Calibration(_Document):
    """From a logit to a calibrated score: sigmoid(slope * logit + intercept) (Platt scaling), and what it rests on."""

    slope: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    intercept: Annotated[float, Field(allow_inf_nan=False)]
    #: Share of present among the n cases that it was fitted on: other prevalences need another intercept.
    prevalence: Annotated[float, Field(gt=0, lt=1)]
    n: Annotated[int, Field(gt=0)]
    #: Name of the data in words; and whether these were radiographs of patients of the intended population.
    data: str
    real: bool
    #: Of the calibrated scores on cases that it was not fitted on (15 bins of equal size).
    expected_calibration_error: Annotated[float, Field(ge=0, le=1)] | None = None


class Architecture(_Document):
    """The backbone: a constructor of workers/networks by the name that timm knows it by, and its arguments."""

    timm_name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class ScoredClass(_Document):
    """One output of a classification head."""

    #: A finding of the vocabulary, "<device>.presence" / "<device>.malposition", or any other name: then the output is
    #: computed, but no result says anything of it, for want of a code.
    target: Annotated[Finding | TubeTarget | Acceptance | OtherTarget, Field(union_mode="left_to_right")]
    #: None: the score is the sigmoid of the logit.
    calibration: Calibration | None = None
    #: The score (0..1, calibrated where there is a calibration) from which on it is called present. None: no threshold
    #: was found on validation data (the class was no better than chance, or nobody has looked), so that results call it
    #: undetermined, neither present nor absent.
    operating_point: Annotated[float, Field(gt=0, lt=1)] | None
    #: True only when scores were calibrated on data from the intended population; then they are probabilities.
    calibrated: bool = False

    @model_validator(mode="after")
    def _calibrated_on_real_data(self) -> Self:
        if self.calibrated and not (self.calibration and self.calibration.real):
            raise ValueError("calibrated is for a calibration on real data")
        return self


class _ClassificationHead(_Document):
    file: WeightFile
    #: Arguments of the head's constructor (workers/networks).
    arguments: dict[str, Any] = Field(default_factory=dict)
    classes: Annotated[list[ScoredClass], Field(min_length=1)]

    @model_validator(mode="after")
    def _targets_differ(self) -> Self:
        targets = [scored.target for scored in self.classes]
        if len(set(targets)) < len(targets):
            raise ValueError("two classes of a head share a target")
        return self


class GloriHead(_ClassificationHead):
    """Cross-attention of one query per class, as the published code has it (GLoRI, arXiv 2502.05142 version 1)."""

    kind: Literal["glori"] = "glori"


class PyramidGloriHead(_ClassificationHead):
    """GLoRI with the additions of arXiv 2502.05142 version 2, of which no code is public: our reading of the paper."""

    kind: Literal["glori_pyramid"] = "glori_pyramid"


class LinearHead(_ClassificationHead):
    """A linear probe on the class tokens of the last blocks; looks nowhere, so it has no evidence maps."""

    kind: Literal["linear"] = "linear"


ClassificationHead: TypeAlias = GloriHead | PyramidGloriHead | LinearHead


class DenseHead(_Document):
    """Per-pixel logits at `stride` input pixels per output pixel: masks (sigmoid) and landmark heat maps."""

    kind: Literal["dense"] = "dense"
    file: WeightFile
    arguments: dict[str, Any] = Field(default_factory=dict)
    stride: Annotated[int, Field(ge=1, le=32)]
    channels: Annotated[list[Segment | Landmark], Field(min_length=1)]


class SecondLookHead(_Document):
    """A small network of its own that looks once more at a crop around the carina and above it, in finer pixels.

    The image is placed once more, `detail_size` instead of the preprocessing's size, and the crop is cut from that.
    """

    kind: Literal["second_look"] = "second_look"
    file: WeightFile
    arguments: dict[str, Any] = Field(default_factory=dict)
    #: Side of the square that the whole image is placed in, pixels.
    detail_size: Annotated[int, Field(ge=64, le=4096)]
    #: Side of the crop, pixels of the placed image: 384 of 1024 are 150 mm of a film of 400 mm.
    crop: Annotated[int, Field(ge=32, le=1024)]
    #: The share of the crop that lies above the carina: where tips are.
    above_carina: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.8
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
    #: On what it was measured, where that is not the recipe's frozen cases: "test patients of kermany".
    data: str = ""


class Manifest(_Document):
    """manifest.json of a bundle."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    version: Annotated[str, Field(max_length=16)]
    created: date
    #: False for everything that the project ships; every surface then says so.
    cleared_for_clinical_use: bool = False
    architecture: Architecture
    backbone_file: WeightFile = "backbone.safetensors"
    preprocessing: Preprocessing
    #: At most one that classifies, one that is dense and one second look; none in a bundle that is only a backbone.
    heads: list[Annotated[ClassificationHead | DenseHead | SecondLookHead, Field(discriminator="kind")]]
    population: Population
    #: Recipe, data and their hashes, in words and numbers.
    training: dict[str, Any]
    metrics: list[Metric] = Field(default_factory=list)
    licence: str
    #: What nobody has shown to work on chest radiographs says so on every surface; "" otherwise.
    unproven: str = ""

    @model_validator(mode="after")
    def _one_head_of_a_kind(self) -> Self:
        kinds = [type(head) if isinstance(head, DenseHead | SecondLookHead) else None for head in self.heads]
        if len(set(kinds)) < len(kinds):
            raise ValueError("a bundle has at most one head that classifies, one that is dense and one second look")
        if self.second_look is not None and self.dense is None:
            raise ValueError("a second look needs a dense head that says where to look")
        return self

    @property
    def classifier(self) -> ClassificationHead | None:
        heads = (head for head in self.heads if not isinstance(head, DenseHead | SecondLookHead))
        return next(heads, None)

    @property
    def second_look(self) -> SecondLookHead | None:
        return next((head for head in self.heads if isinstance(head, SecondLookHead)), None)

    @property
    def dense(self) -> DenseHead | None:
        return next((head for head in self.heads if isinstance(head, DenseHead)), None)

    @property
    def classes(self) -> list[ScoredClass]:
        """Classes of the classification head in the order of its logits; empty without one."""
        return self.classifier.classes if self.classifier else []

    @property
    def findings(self) -> list[Finding]:
        """Those of the classes that are findings of the vocabulary: what a result says something of."""
        return [scored.target for scored in self.classes if isinstance(scored.target, Finding)]

    @property
    def devices(self) -> list[Device]:
        """Those whose presence a class scores: what a result may say something of."""
        targets = {scored.target for scored in self.classes}
        return [device for device in Device if device.presence_target in targets]

    @property
    def channels(self) -> list[Segment | Landmark]:
        """Maps of the dense head in its order; empty without one."""
        return self.dense.channels if self.dense else []

    @property
    def says_something(self) -> bool:
        """Whether a result could say anything: of a finding, of a tube, or of a region (workers/interpret.py)."""
        # A tube is looked for where there is a threshold and a map of it; its mask alone is not shown.
        thresholds = {each.target for each in self.classes if each.operating_point is not None}
        tube = any(device.presence_target in thresholds for device in self.devices)
        regions = [each for each in self.channels if isinstance(each, Segment)]
        return bool(self.findings or any(each.device is None for each in regions) or (tube and self.dense is not None))

    def check_says_something(self) -> None:
        """Raises BundleError, which says what to do, when no result could say anything."""
        if self.says_something:
            return
        if not self.heads:
            raise BundleError(
                f"{self.name} {self.version} has no head, so its results would say nothing: import it with a head."
            )
        raise BundleError(
            f"{self.name} {self.version} has no class that results speak of, so they would say nothing: import it "
            "again with --classes that name findings (docs/foundation-models.md)."
        )


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder`/manifest.json. Raises BundleError that names what is wrong."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise BundleError(f"{folder} has no readable {MANIFEST_FILE}: {error.strerror}. {_advice(folder)}") from error
    except ValidationError as error:
        # As it stands pydantic's text is a page of links.
        problems = [f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}" for each in error.errors()]
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise BundleError(
            f"{folder / MANIFEST_FILE} is damaged or of another version of the software: {'; '.join(problems[:3])}"
            f"{more}. Fetch the bundle again, or import its weights again."
        ) from error


def _advice(folder: Path) -> str:
    if folder.is_dir() and any(path.suffix in _WEIGHT_SUFFIXES for path in folder.iterdir()):
        return "It holds weights: make a bundle of them with chexnode bundle import."
    return "Is it a bundle's folder? If so, fetch it again, or import its weights again."


def bundle_digest(folder: Path) -> str:
    """SHA-256 (hex) over the relative path and SHA-256 of every file of the bundle, in path order.

    Raises BundleError for a link to a folder, whose files would be loaded and neither hashed nor copied.
    """
    digest = hashlib.sha256()
    paths = sorted(folder.rglob("*"))
    if links := [path for path in paths if path.is_symlink() and not path.is_file()]:
        raise BundleError(f"{links[0]} is a link to a folder or to nothing: put the files themselves there.")
    for path in (path for path in paths if path.is_file()):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def bundle_folder(configured: Path | None) -> Path:
    """The folder of the bundle to serve: the configured one, else the one that is shipped with the package."""
    return configured or Path(__file__).resolve().parent.parent / "workers" / "bundles" / "chexnode-reference"
