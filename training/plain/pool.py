"""The training pool: phantoms rendered once, kept in a cache folder as memory-mapped arrays."""

import hashlib
import shutil
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from rich.progress import Progress

import training.plain.phantom
from schemas.preprocessing import Preprocessing
from training.plain.phantom.render import render_phantom
from training.plain.phantom.truth import Phantom
from training.plain.targets import CHANNELS, CLASSES, class_truth, landmark_truth
from training.rendering import film_size as film_size
from training.rendering import render_processes as render_processes
from workers.placement import Placement

#: Rendered so much larger than the model's input, then reduced as the reading path reduces a film.
OVERSIZE = 1.5
_CHUNK = 40
_LANDMARKS = len(CHANNELS) - 4


@dataclass(frozen=True)
class PoolSettings:
    #: How the model sees them.
    preprocessing: Preprocessing
    count: int
    first_seed: int


@dataclass(frozen=True)
class Pool:
    """N phantoms as the model sees them, placed in S x S pixels."""

    #: uint8 [N, S, S], 0..255 for 0..1.
    images: NDArray[np.uint8]
    #: uint8 [N, S, S], a bit per mask: `SEGMENTS`, then `LOCALISED_FINDINGS` of training.plain.phantom.truth.
    masks: NDArray[np.uint8]
    #: float32 [N, classes], see `training.plain.targets.class_truth`.
    classes: NDArray[np.float32]
    #: float32 [N, 2, 2], (x, y) of tip and carina in model pixels; NaN for no tip.
    landmarks: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)

    def part(self, start: int, stop: int) -> "Pool":
        return Pool(*(getattr(self, name)[start:stop] for name in _ARRAYS))


_ARRAYS = ("images", "masks", "classes", "landmarks")


def load_pool(settings: PoolSettings, cache: Path, progress: Progress) -> Pool:
    """The pool from the cache, rendered by two processes when it is not there yet."""
    # Mean and deviation are left out: images are kept as they are before they are normalised.
    placing = settings.preprocessing.model_dump_json(include={"size", "fit", "resize", "resampling", "intensity"})
    code = hashlib.sha256((placing + phantom_code_digest()).encode()).hexdigest()
    key = f"{settings.preprocessing.size}-{settings.first_seed}-{settings.count}-{code[:12]}"
    folder = cache / f"pool-{key}"
    if not folder.exists():
        _render(settings, folder, progress)
    return Pool(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS))


def phantom_code_digest() -> str:
    """SHA-256 (hex) over the source of the phantom: other code draws other images."""
    digest = hashlib.sha256()
    for path in sorted(Path(training.plain.phantom.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def placed(phantom: Phantom, preprocessing: Preprocessing) -> tuple[NDArray[np.uint8], Placement]:
    """The phantom's image as the model sees it, uint8 [size, size], and the mapping to it."""
    placement = Placement.of(phantom.image.shape[0], phantom.image.shape[1], preprocessing)
    return np.round(placement.apply(phantom.image) * 255).astype(np.uint8), placement


def _render(settings: PoolSettings, folder: Path, progress: Progress) -> None:
    partial_folder = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    size = settings.preprocessing.size
    image = (settings.count, size, size)
    shapes = {
        "images": (image, np.uint8),
        "masks": (image, np.uint8),
        "classes": ((settings.count, len(CLASSES)), np.float32),
        "landmarks": ((settings.count, _LANDMARKS, 2), np.float32),
    }
    for name, (shape, dtype) in shapes.items():
        open_memmap(partial_folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape).flush()
    task = progress.add_task("Rendering phantoms", total=settings.count)
    with render_processes() as processes:
        work = partial(_render_chunk, settings, partial_folder)
        for future in as_completed(processes.submit(work, start) for start in range(0, settings.count, _CHUNK)):
            progress.advance(task, future.result())
    partial_folder.rename(folder)


def _render_chunk(settings: PoolSettings, folder: Path, start: int) -> int:
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in _ARRAYS}
    stop = min(start + _CHUNK, settings.count)
    for index in range(start, stop):
        seed = settings.first_seed + index
        phantom = render_phantom(seed, *film_size(seed, round(OVERSIZE * settings.preprocessing.size)))
        arrays["images"][index], placement = placed(phantom, settings.preprocessing)
        for bit, mask in enumerate([*phantom.masks, *phantom.finding_masks]):
            inside = placement.place(mask.astype(np.float32)) > 0.5
            arrays["masks"][index] |= inside.astype(np.uint8) << bit
        arrays["classes"][index] = class_truth(phantom)
        arrays["landmarks"][index] = placement.to_model(landmark_truth(phantom).astype(np.float64))
    return stop - start
