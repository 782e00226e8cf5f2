"""CheXFound's config.yaml: what it says of the network, held against the weights. Called by chexfound.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from schemas.bundle import Architecture
from schemas.errors import BundleMakingError
from workers.checkpoints.reading import SourceFile, source_file


@dataclass(frozen=True)
class _Named:
    embed_dim: int
    depth: int
    heads: int


#: Sizes behind the names that `student.arch` may have (DINOv2); any other name goes with explicit sizes.
_NAMED = {
    "vit_small": _Named(384, 12, 6),
    "vit_base": _Named(768, 12, 12),
    "vit_large": _Named(1024, 24, 16),
    "vit_giant2": _Named(1536, 40, 24),
}


@dataclass(frozen=True)
class ChexfoundConfig:
    """None: the file does not say."""

    source: SourceFile
    embed_dim: int | None
    depth: int | None
    heads: int | None
    registers: int | None
    #: "mlp" or "swiglu"
    ffn: str | None
    #: Side of the square in pixels that it was trained on.
    size: int | None
    interpolate_offset: float

    def check(self, architecture: Architecture, weights: str) -> None:
        """Raises BundleMakingError that lists what contradicts the network that the shapes of `weights` speak of."""
        stated = {
            "embed_dim": self.embed_dim,
            "depth": self.depth,
            "reg_tokens": self.registers,
            "ffn": self.ffn,
            "img_size": self.size,
        }
        differing = [
            f"{name} {value} where the shapes say {architecture.arguments[name]}"
            for name, value in stated.items()
            if value is not None and value != architecture.arguments[name]
        ]
        if differing:
            raise BundleMakingError(
                f"{self.source.name} is not the configuration of {weights}: {'; '.join(differing)}."
            )


def read_config(path: Path) -> ChexfoundConfig:
    """Read config.yaml as CheXFound (DINOv2) writes it.

    Raises BundleMakingError when it is no such file or asks for what the network cannot do.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BundleMakingError(f"{path} cannot be read as YAML: {error}") from error
    student = _entry(document, "student")
    if not student:
        raise BundleMakingError(f"{path} has no section student: it is not a configuration of CheXFound or DINOv2.")
    if _number(path, student, "patch_size") not in (None, 16):
        raise BundleMakingError(f"{path} says patch_size {student['patch_size']}; only 16 is supported.")
    if student.get("interpolate_antialias"):
        raise BundleMakingError(f"{path} asks for interpolate_antialias, which is not supported.")
    named = _NAMED.get(str(student.get("arch")))
    ffn = student.get("ffn_layer")
    offset = student.get("interpolate_offset", 0.1)
    if not isinstance(offset, int | float) or isinstance(offset, bool):
        raise BundleMakingError(f"{path} says interpolate_offset {offset}, which is no number.")
    return ChexfoundConfig(
        source=source_file(path),
        embed_dim=_number(path, student, "embed_dim", named.embed_dim if named else None),
        depth=_number(path, student, "depth", named.depth if named else None),
        heads=_number(path, student, "num_heads", named.heads if named else None),
        registers=_number(path, student, "num_register_tokens"),
        ffn=None if ffn is None else "mlp" if ffn == "mlp" else "swiglu",
        size=_number(path, _entry(document, "crops"), "global_crops_size"),
        interpolate_offset=float(offset),
    )


def _entry(document: Any, name: str) -> dict[str, Any]:
    entry = document.get(name) if isinstance(document, dict) else None
    return entry if isinstance(entry, dict) else {}


def _number(path: Path, section: dict[str, Any], name: str, otherwise: int | None = None) -> int | None:
    value = section.get(name, otherwise)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise BundleMakingError(f"{path} says {name} {value}, which is no whole number.")
    return value
