"""What a bundle's network says of image files, read as the node reads them. Called by `chexnode train calibrate`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from schemas.errors import ChexnodeError, EngineError
from schemas.preprocessing import Preprocessing
from schemas.settings import WorkerSettings
from training.calibration.local_images import read_placed
from workers.bundle import LoadedBundle, normalise
from workers.devices import available_cores, choose_devices
from workers.processes import Processes

_BATCH = 8


@dataclass(frozen=True)
class Unread:
    """A file without logits."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class LocalLogits:
    """Logits float64 [n, K] of the files that could be read, and their rows in the list that was given."""

    logits: NDArray[np.float64]
    rows: NDArray[np.int64]
    unread: list[Unread]


def local_logits(bundle: LoadedBundle, paths: list[Path], settings: WorkerSettings, progress: Progress) -> LocalLogits:
    """Logits of DICOM, PNG or JPEG files, by eager float32 on the first device of the settings.

    Files are read in processes of their own, so that a decoder that crashes costs one file.
    """
    device = torch.device(choose_devices(settings.device)[0])
    network, preprocessing = bundle.network.to(device), bundle.manifest.preprocessing
    processes = Processes(min(2, available_cores()), settings.process_deadline_seconds, warm_up=False)
    task = progress.add_task("Reading images", total=len(paths))
    found: list[NDArray[np.float64]] = []
    rows: list[int] = []
    unread: list[Unread] = []
    try:
        with ThreadPoolExecutor(min(2, available_cores())) as pool:
            for start in range(0, len(paths), _BATCH):
                part = paths[start : start + _BATCH]
                seen = list(pool.map(partial(_read, processes, preprocessing), part))
                placed = [(start + row, each) for row, each in enumerate(seen) if not isinstance(each, Unread)]
                unread += [each for each in seen if isinstance(each, Unread)]
                if placed:
                    with torch.inference_mode():
                        images = torch.from_numpy(np.stack([image for _, image in placed])).to(device)
                        logits = network(normalise(images, preprocessing)).logits.double().cpu().numpy()
                    found.append(_finite(logits, bundle))
                    rows += [row for row, _ in placed]
                progress.advance(task, len(part))
    finally:
        processes.close()
    classes = len(bundle.manifest.classes)
    logits = np.concatenate(found) if found else np.zeros((0, classes))
    return LocalLogits(logits, np.array(rows, np.int64), unread)


def _read(processes: Processes, preprocessing: Preprocessing, path: Path) -> NDArray[np.float32] | Unread:
    try:
        return processes.call(read_placed, path, preprocessing)
    except ChexnodeError as error:
        return Unread(path, str(error))


def _finite(logits: NDArray[np.float64], bundle: LoadedBundle) -> NDArray[np.float64]:
    if not np.isfinite(logits).all():
        raise EngineError(
            f"The network of {bundle.folder} gives NaN or infinity: verify it with chexnode bundle verify."
        )
    return logits
