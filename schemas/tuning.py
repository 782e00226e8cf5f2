"""What `chexnode bundle tune` found: per device the fastest engine that keeps the stated accuracy.

Lies beside the bundle's folder, not in it, since it belongs to this host; engine processes read it when they start.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import BundleError

NotNegative = Annotated[float, Field(ge=0)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineChoice(_Document):
    """What computes a network, and how exactly."""

    name: Literal["torch", "openvino", "onnxruntime"] = "torch"
    precision: Literal["float32", "bfloat16"] = "float32"
    #: torch only: torch.compile with CUDA graphs.
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.precision}" + (" compiled" if self.compiled else "")


#: An engine whose outputs differ more from the recorded ones of the self-test is never chosen, nor believed: logits of
#: masks reach 20, and bfloat16 changes those of the shipped bundle by up to 0.2.
MOST_SELFTEST_DIFFERENCE = 1.0

#: What every other engine is measured against, and what serves where nothing was tuned.
REFERENCE = EngineChoice()


class MeasuredEngine(_Document):
    """An engine's speed on a device, and the differences of its outputs from eager float32."""

    engine: EngineChoice
    #: The best of repeated passes.
    milliseconds_per_image: NotNegative
    start_seconds: NotNegative
    #: Of a score, 0..1: 99th percentile.
    score_difference: NotNegative
    #: Decisions at the operating points, and whether a landmark is located, that come out otherwise, as a share of all.
    flipped_decisions: Annotated[float, Field(ge=0, le=1)]
    #: Of an evidence map: its greatest difference as a share of its peak, 99th percentile over the maps.
    attention_difference: NotNegative
    #: Pixels of the masks that come out otherwise, as a share of those in either mask; 0 without a dense head.
    flipped_mask: Annotated[float, Field(ge=0, le=1)]
    #: Distance of a landmark that both locate, pixels of the model's input: 99th percentile.
    landmark_shift: NotNegative
    #: Of an output of the bundle's self-test from the recorded one.
    selftest_difference: NotNegative
    #: Which bound it exceeds; empty when it keeps all.
    refused: str = ""


class DeviceTuning(_Document):
    """The choice for one kind of device."""

    #: CPU model and cores, or GPU model.
    device: str
    #: Of the packages that compute; the choice holds for these only.
    versions: dict[str, str]
    choice: EngineChoice
    #: Of the choice; what it is allowed later is a margin above it.
    selftest_difference: NotNegative
    #: Images that the differences were measured on.
    images: int
    measured: list[MeasuredEngine]


class Tuning(_Document):
    """<bundle folder>.tuning.json."""

    format: Literal[1] = 1
    bundle_digest: str
    devices: list[DeviceTuning]

    def with_device(self, tuned: DeviceTuning) -> "Tuning":
        """A copy with `tuned` in the place of what was known of that device."""
        others = [each for each in self.devices if each.device != tuned.device]
        return self.model_copy(update={"devices": [*others, tuned]})


def tuning_file(bundle: Path) -> Path:
    """Where the tuning of the bundle in that folder is kept."""
    bundle = bundle.resolve()
    return bundle.with_name(f"{bundle.name}.tuning.json")


def read_tuning(bundle: Path) -> Tuning | None:
    """The bundle's tuning; None when it has none. Raises BundleError when the file cannot be read."""
    path = tuning_file(bundle)
    try:
        return Tuning.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise BundleError(f"{path} cannot be read: {error}. Delete it, or run `chexnode bundle tune` again.") from error


def write_tuning(bundle: Path, tuning: Tuning) -> Path:
    """Keep the bundle's tuning; returns the file. Raises BundleError when the folder above cannot be written."""
    path = tuning_file(bundle)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        draft.write_text(tuning.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise BundleError(
            f"{path} cannot be written: {error.strerror}. Tune as a user who may, or copy the bundle to a folder of "
            "your own, tune it there and activate it."
        ) from error
    return path
