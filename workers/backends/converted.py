"""What OpenVINO and ONNX Runtime share: a model file beside the bundle, and one image at a time."""

import shutil
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workers.backends.backend import Outputs
from workers.backends.part import Part

#: Longer than any conversion that is still alive.
_ABANDONED_SECONDS = 3600.0


class ConvertedBackend(ABC):
    """A backend for the CPU that computes one image per pass, since batching gains nothing there.

    Raises RuntimeError for a bundle without a head.
    """

    def __init__(self, part: Part) -> None:
        if not part.given:
            raise RuntimeError(f"{part.bundle.manifest.name} has no head, so there is nothing to compute")
        self._given = part.given

    @abstractmethod
    def _infer(self, image: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        """The outputs that there are for an image float32 [1, S, S]; may be overwritten by the next pass."""

    def launch(self, images: NDArray[np.float32]) -> Callable[[], Outputs]:
        """See `Backend.launch`."""
        count = len(images)
        arrays = {
            "logits": np.zeros((count, 0), np.float32),
            "attention": np.zeros((count, 0, 1, 1), np.float32),
            "dense": np.zeros((count, 0, 1, 1), np.float32),
        }
        rows = [[np.array(array) for array in self._infer(images[index : index + 1])] for index in range(count)]
        for name, parts in zip(self._given, zip(*rows, strict=True), strict=True):
            arrays[name] = np.concatenate(parts)
        outputs = Outputs(**arrays)
        return lambda: outputs


@contextmanager
def converted_model(
    part: Part, kind: str, file: str, convert: Callable[[nn.Module, Tensor, Path], None]
) -> Iterator[Path]:
    """The converted model of a bundle's part: `file` in a folder beside the bundle's, made where it is not there yet.

    Where nothing can be kept beside the bundle it is made for the block only.

    Parameters
    ----------
    kind
        Engine and version that it is made for.
    convert
        Writes the module, which takes float32 [1, side, side] and gives the part's outputs, to a path.
    """
    store = _store(part.bundle.folder)
    folder = store / "-".join(filter(None, [part.bundle.digest[:16], kind, part.name]))
    if (folder / file).is_file():
        yield folder / file
        return
    try:
        store.mkdir(exist_ok=True)
        _remove_abandoned(store)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=store))
    except OSError:  # a read-only place: convert at every start
        draft = store = Path(tempfile.mkdtemp(prefix="chexnode-converted-"))
    try:
        _write(part, convert, draft / file)
        if draft is store:
            yield draft / file
            return
        try:
            draft.rename(folder)
        except OSError:
            if not (folder / file).is_file():  # else another engine was faster
                raise
        yield folder / file
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _remove_abandoned(store: Path) -> None:
    """Drafts of engines that were killed while they converted: of a large network a gigabyte each."""
    for draft in store.glob(".draft-*"):
        with suppress(OSError):  # somebody else was quicker
            if time.time() - draft.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(draft)


def _write(part: Part, convert: Callable[[nn.Module, Tensor, Path], None], path: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of tracing: sizes are fixed, so what it takes for constant is
        convert(_Given(part), torch.zeros(1, part.side, part.side), path)


def forget_converted(bundle: Path, engines: AbstractSet[str]) -> None:
    """Delete the converted models of a bundle that are not for one of these engines ("openvino", "onnxruntime")."""
    store = _store(bundle)
    for folder in store.glob("*"):
        if not any(f"-{engine}-" in folder.name for engine in engines):
            shutil.rmtree(folder, ignore_errors=True)
    if store.is_dir() and not any(store.iterdir()):
        store.rmdir()


def _store(bundle: Path) -> Path:
    bundle = bundle.resolve()
    return bundle.with_name(f"{bundle.name}.converted")


class _Given(nn.Module):
    def __init__(self, part: Part) -> None:
        super().__init__()
        # Not `graph`: what is traced has an attribute of that name.
        self.whole = part.graph
        self.names = part.given
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.whole(images)
        return tuple(getattr(output, name) for name in self.names)
