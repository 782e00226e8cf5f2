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
from training.calibration.device_courses import course_scores, traced_devices
from training.calibration.local_images import Placed, read_placed
from training.evaluation.seeing import second_looks
from workers.bundle import LoadedBundle, normalise
from workers.devices import available_cores, choose_devices
from workers.processes import Processes
from workers.second_look import detail_preprocessing

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
    #: By presence target, float64 [n], see training/calibration/device_courses.py.
    courses: dict[str, NDArray[np.float64]]


def local_logits(bundle: LoadedBundle, paths: list[Path], settings: WorkerSettings, progress: Progress) -> LocalLogits:
    """Logits of DICOM, PNG or JPEG files, by eager float32 on the first device of the settings.

    Files are read in processes of their own, so that a decoder that crashes costs one file.
    """
    device = torch.device(choose_devices(settings.device)[0])
    network, preprocessing = bundle.network.to(device), bundle.manifest.preprocessing
    finer = detail_preprocessing(bundle.manifest)
    processes = Processes(min(2, available_cores()), settings.process_deadline_seconds, warm_up=False)
    task = progress.add_task("Reading images", total=len(paths))
    found: list[NDArray[np.float64]] = []
    rows: list[int] = []
    courses: dict[str, list[float]] = {each.presence_target: [] for each in traced_devices(bundle.manifest)}
    unread: list[Unread] = []
    try:
        with ThreadPoolExecutor(min(2, available_cores())) as pool:
            for start in range(0, len(paths), _BATCH):
                part = paths[start : start + _BATCH]
                seen = list(pool.map(partial(_read, processes, preprocessing, finer), part))
                placed = [(start + row, each) for row, each in enumerate(seen) if not isinstance(each, Unread)]
                unread += [each for each in seen if isinstance(each, Unread)]
                if placed:
                    with torch.inference_mode():
                        images = torch.from_numpy(np.stack([each.image for _, each in placed])).to(device)
                        output = network(normalise(images, preprocessing))
                    found.append(_finite(output.logits.double().cpu().numpy(), bundle))
                    dense, details = output.dense.cpu(), [each.detail for _, each in placed]
                    closers = second_looks(network, bundle.manifest, dense.numpy(), details)
                    placements = [each.placement for _, each in placed]
                    for target, scores in course_scores(dense, placements, closers, bundle.manifest).items():
                        courses[target] += scores
                    rows += [row for row, _ in placed]
                progress.advance(task, len(part))
    finally:
        processes.close()
    classes = len(bundle.manifest.classes)
    logits = np.concatenate(found) if found else np.zeros((0, classes))
    traced = {target: np.array(scores, np.float64) for target, scores in courses.items()}
    return LocalLogits(logits, np.array(rows, np.int64), unread, traced)


def _read(
    processes: Processes, preprocessing: Preprocessing, finer: Preprocessing | None, path: Path
) -> Placed | Unread:
    try:
        return processes.call(read_placed, path, preprocessing, finer)
    except ChexnodeError as error:
        return Unread(path, str(error))


def _finite(logits: NDArray[np.float64], bundle: LoadedBundle) -> NDArray[np.float64]:
    if not np.isfinite(logits).all():
        raise EngineError(
            f"The network of {bundle.folder} gives NaN or infinity: verify it with chexnode bundle verify."
        )
    return logits
