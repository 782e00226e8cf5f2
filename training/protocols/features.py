"""A frozen backbone's features of a store, computed once and kept: what every probe reads instead of images.

Called by compare.py.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from schemas.preprocessing import Preprocessing
from training.pretraining.probe import whole_images
from training.pretraining.store import Store
from workers.networks.features import Backbone, Features

_BATCH = 32


@dataclass(frozen=True, eq=False)
class CachedFeatures:
    """Of N images; P patches, `blocks` last blocks of `width` channels."""

    #: float16 [N, blocks, width]
    cls: NDArray[np.float16]
    #: float16 [N, blocks, P, width]
    patches: NDArray[np.float16]
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.cls)

    def of(self, rows: NDArray[np.intp], device: torch.device | None = None) -> Features:
        """The features of some images as a head takes them, float32, on `device` (None: CPU)."""
        cls, patches = (torch.from_numpy(each[rows]).to(device).float() for each in (self.cls, self.patches))
        return Features(list(patches.unbind(dim=1)), list(cls.unbind(dim=1)), self.grid, [])


def cached_features(
    backbone: Backbone, store: Store, preprocessing: Preprocessing, folder: Path, progress: Progress, title: str
) -> CachedFeatures:
    """The features of every image of the store, found in `folder` when this backbone has computed them before.

    Parameters
    ----------
    preprocessing : the backbone's; images are seen whole at its size
    """
    key = hashlib.sha256(_digest(backbone) + repr((store.document.origin, len(store), preprocessing)).encode())
    mine = folder / key.hexdigest()[:24]
    if not (mine / "grid.npy").exists():
        mine.mkdir(parents=True, exist_ok=True)
        _compute(backbone, store, preprocessing, mine, progress, title)
    rows, columns = np.load(mine / "grid.npy").tolist()
    cls, patches = (np.load(mine / f"{name}.npy", mmap_mode="r") for name in ("cls", "patches"))
    return CachedFeatures(cls, patches, (rows, columns))


def _compute(
    backbone: Backbone, store: Store, preprocessing: Preprocessing, folder: Path, progress: Progress, title: str
) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone.to(device).eval()
    cls = patches = None
    grid = (0, 0)
    task = progress.add_task(title, total=len(store))
    for start in range(0, len(store), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(store)))
        images = whole_images(torch.from_numpy(store.images.take(rows)), preprocessing.size, preprocessing, device)
        with torch.inference_mode():
            features = backbone(images)
        of_cls, of_patches = (_half(torch.stack(each, dim=1)) for each in (features.cls, features.patches))
        if cls is None or patches is None:
            grid = features.grid
            cls = _file(folder / "cls.npy", len(store), of_cls)
            patches = _file(folder / "patches.npy", len(store), of_patches)
        cls[rows], patches[rows] = of_cls, of_patches
        progress.advance(task, len(rows))
    backbone.cpu()
    for array in (cls, patches):
        assert isinstance(array, np.memmap)
        array.flush()
    # The last step: without it they are computed anew.
    np.save(folder / "grid.npy", np.array(grid))


def _file(path: Path, count: int, like: NDArray[np.float16]) -> NDArray[np.float16]:
    return open_memmap(path, mode="w+", dtype=np.float16, shape=(count, *like.shape[1:]))


def _half(tensor: Tensor) -> NDArray[np.float16]:
    half: NDArray[np.float16] = tensor.cpu().half().numpy()
    return half


def _digest(backbone: Backbone) -> bytes:
    whole = hashlib.sha256()
    for name, tensor in backbone.state_dict().items():
        whole.update(name.encode())
        whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.digest()
