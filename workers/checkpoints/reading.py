"""Reads a published weight file into plain tensors, without running anything that is in it.

Called by each system's reader (chexfound.py, chess.py, mae.py, gmml.py).
"""

import hashlib
import pickle
import re
import shlex
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from schemas.errors import BundleMakingError

#: Runs where the file is trusted: keeps its tensors and the folders they are in, drops every other object.
_CONVERSION = (
    'python -c "import sys, torch; '
    "keep = lambda o: {str(k): keep(v) for k, v in o.items() if isinstance(v, (dict, torch.Tensor))} "
    "if isinstance(o, dict) else o.detach().clone(); "
    "torch.save(keep(torch.load(sys.argv[1], map_location='cpu', weights_only=False)), sys.argv[2])\" "
)

#: Modules of which no checkpoint needs anything, and with which commands are run.
_RUNS_COMMANDS = {"posix", "nt", "os", "subprocess", "pty", "shutil", "socket", "runpy", "importlib", "ctypes"}

#: Called with bytes read so far and in all.
ReadProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class SourceFile:
    """What the bundle says of a file that it was made from."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one file."""

    source: SourceFile
    #: The entry of the file that held the weights ("teacher", "model", ...); "" when it holds nothing else.
    section: str
    #: Weights by their name in that entry, on the CPU; those of a large file are mapped, not copied.
    tensors: dict[str, Tensor] = field(repr=False)
    #: Other entries of the file, all of them allowed by the caller.
    beside: list[str] = field(default_factory=list)


def read_checkpoint(
    path: Path, sections: Sequence[str], beside: Sequence[str], progress: ReadProgress = lambda done, total: None
) -> Checkpoint:
    """Read a checkpoint of torch.save or safetensors.

    Parameters
    ----------
    sections : entries that may hold the weights, the preferred one first; a file of tensors only needs none
    beside : other entries that the file may have, as optimisers write them; they are left out

    Raises BundleMakingError for a file that is damaged, is no checkpoint, needs pickle, or has an entry nobody named.
    """
    source = source_file(path, progress)
    content = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return Checkpoint(source, "", {str(name): tensor for name, tensor in content.items()})
    section = next((name for name in sections if name in content), None)
    if section is None:
        raise BundleMakingError(
            f"{path} has no entry {' or '.join(sections)}; it holds {_listed(map(str, content)) or 'nothing'}."
        )
    others = [str(name) for name in content if name != section]
    if unknown := [name for name in others if name not in (*sections, *beside)]:
        raise BundleMakingError(f"{path} has entries that nobody expects there: {_listed(unknown)}.")
    tensors = content[section]
    if not isinstance(tensors, Mapping) or not tensors:
        raise BundleMakingError(f"The entry {section} of {path} holds no tensors.")
    if strange := [str(name) for name, value in tensors.items() if not isinstance(value, Tensor)]:
        raise BundleMakingError(f"The entry {section} of {path} holds what is no tensor: {_listed(strange)}.")
    return Checkpoint(source, section, {str(name): tensor for name, tensor in tensors.items()}, others)


def entry_names(path: Path) -> list[str]:
    """Names of everything in a checkpoint, those of an entry's tensors as "entry.name".

    Raises BundleMakingError when it cannot be read.
    """
    names = []
    for name, value in (_safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)).items():
        names += [f"{name}.{each}" for each in value] if isinstance(value, Mapping) else [str(name)]
    return names


def source_file(path: Path, progress: ReadProgress = lambda done, total: None) -> SourceFile:
    """Name, SHA-256 and size of a file. Raises BundleMakingError when it cannot be read."""
    digest, done = hashlib.sha256(), 0
    try:
        total = path.stat().st_size
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
                done += len(block)
                progress(done, total)
    except OSError as error:
        raise BundleMakingError(f"{path} cannot be read: {error.strerror}.") from error
    return SourceFile(path.name, digest.hexdigest(), done)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BundleMakingError(
            f"{path} is damaged, cut off or no safetensors file ({error}). Fetch it again and compare its size."
        ) from error
    return tensors


def _torch_file(path: Path) -> dict[Any, Any]:
    with path.open("rb") as stream:
        start = stream.read(64)
    if start[:1] == b"<" or start.startswith(b"version h"):
        raise BundleMakingError(f"{path} is a web page or a pointer to the file, not the file: fetch it again.")
    if start[8:9] == b"{":
        raise BundleMakingError(f"{path} is in the format of safetensors: rename it so that it ends in .safetensors.")
    if start and start.isascii() and start.decode().replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        raise BundleMakingError(f"{path} is a text file, not a checkpoint: give the file that holds the weights.")
    try:
        # Only the newer of torch's two formats can be mapped.
        mapped = zipfile.is_zipfile(path) or None
        with warnings.catch_warnings():
            # What torch warns of is told below, in our words.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if not _is_pickle(start) or "truncated" in str(error):
            raise _damaged(path, error) from error
        if (needed := _needed(error)) and needed.split(".")[0] in _RUNS_COMMANDS:
            raise BundleMakingError(
                f"{path} is pickle that calls {needed} when it is read, as no weights do and as malicious files do. "
                "Do not convert or open it; ask its source what it is."
            ) from error
        bare = path.with_suffix("")
        raise BundleMakingError(
            f"{path} holds objects that only pickle can read, and reading pickle runs whatever code is in it "
            f"({_reason(error)}). If you trust its source, convert it in a place that holds nothing of value, and "
            f"import the result:\n  {_CONVERSION}{shlex.quote(str(path))} {shlex.quote(f'{bare}-tensors.pth')}"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, struct.error) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, Mapping):
        raise BundleMakingError(f"{path} holds no dictionary of tensors but {type(content).__name__}.")
    return dict(content)


def _is_pickle(start: bytes) -> bool:
    """Of the two formats of torch.save: a zip archive, or pickle of protocol 2 and newer."""
    return start.startswith((b"PK\x03\x04", b"\x80"))


def _damaged(path: Path, error: Exception) -> BundleMakingError:
    return BundleMakingError(
        f"{path} is damaged, cut off or no checkpoint ({_reason(error)}). Fetch it again and compare its size."
    )


def _reason(error: Exception) -> str:
    """What is wrong, without torch's page of advice."""
    if needed := _needed(error):
        return f"it needs {needed}"
    if isinstance(error, KeyError | IndexError):
        return "it has another format"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    sentence = lines[0].split(". ")[0] if lines else ""
    return f"{type(error).__name__}: {sentence}"[:200]


def _needed(error: Exception) -> str:
    """What of Python's the pickle asks for, "module.name"; "" when torch does not say."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    return found[1] if found else ""


def _listed(names: Any) -> str:
    names = sorted(names)
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
