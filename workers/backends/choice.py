"""Which backend computes a bundle on a device: the tuned one where one is recorded and loads, else torch in float32."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from schemas.bundle import Manifest
from schemas.errors import BundleError
from schemas.tuning import MOST_SELFTEST_DIFFERENCE, REFERENCE, DeviceTuning, EngineChoice, read_tuning
from workers.backends.backend import Backend
from workers.backends.converted import forget_converted
from workers.backends.part import Part, first_look, second_look
from workers.backends.torch_backend import TorchBackend
from workers.bundle import LoadedBundle, load_bundle, run_selftest
from workers.devices import available_cores

log = structlog.get_logger()

#: A tuned engine may differ from the self-test by this many times what it differed by when it was tuned ...
_MARGIN = 2.0
#: ... or by this, where it hardly differed.
_LEAST_ALLOWED = 0.01
#: Distributions whose versions change numbers or speed.
_PACKAGES = ("torch", "timm", "openvino", "onnxruntime")


@dataclass(frozen=True)
class Chosen:
    """A backend that has passed the self-test."""

    backend: Backend
    #: Of the same engine, for the second look; None where the bundle has none.
    closer: Backend | None
    manifest: Manifest
    bundle_digest: str
    #: Why it is this one, for the log.
    reason: str
    selftest_difference: float


def load_chosen(folder: Path, device: str, largest_batch: int) -> Chosen:
    """Load a bundle for a device and run its self-test through what will serve it.

    Raises BundleError when the bundle does not load, or its numbers differ by more than is allowed.
    """
    torch.set_num_threads(available_cores())
    loaded = load_bundle(folder)
    tuned, reason = _recorded(loaded, device)
    if tuned is not None:
        # A record from elsewhere must not be able to allow anything.
        recorded = min(tuned.selftest_difference, MOST_SELFTEST_DIFFERENCE)
        allowed = max(_MARGIN * recorded, _LEAST_ALLOWED)
        try:
            return _chosen(loaded, tuned.choice, device, largest_batch, reason, allowed)
        except (ImportError, RuntimeError, OSError, ValueError) as error:
            reason = f"{tuned.choice} was chosen but does not load: {error}"
        except BundleError as error:
            if tuned.choice.name == "torch":
                raise
            reason = f"{tuned.choice} was chosen but its converted model computes something else: {error}"
        if tuned.choice.name != "torch":
            forget_converted(folder, set())  # it may be damaged, as after a power cut: the next start makes it anew
        loaded = load_bundle(folder)  # what failed may have converted weights
    return _chosen(loaded, REFERENCE, device, largest_batch, reason)


def make_backend(loaded: LoadedBundle, engine: EngineChoice, device: str, largest_batch: int) -> Backend:
    """The engine on the device, ready for batches of up to `largest_batch`; takes over the bundle's network.

    Raises ImportError when its package is not installed, RuntimeError when it cannot compute the network.
    """
    return _make(first_look(loaded), engine, device, largest_batch)


def make_closer(loaded: LoadedBundle, engine: EngineChoice, device: str, largest_batch: int) -> Backend | None:
    """As `make_backend`, for the bundle's second look; None where it has none."""
    part = second_look(loaded)
    return None if part is None else _make(part, engine, device, largest_batch)


def _make(part: Part, engine: EngineChoice, device: str, largest_batch: int) -> Backend:
    if engine.name == "torch":
        backend = TorchBackend(part.graph, device, engine.precision, engine.compiled)
        backend.warm_up(largest_batch, part.side)
        return backend
    if device != "cpu":
        raise RuntimeError(f"{engine.name} serves the CPU only")
    # Only here: not everybody has them installed.
    if engine.name == "openvino":
        from workers.backends.openvino_backend import OpenVINOBackend

        return OpenVINOBackend(part, engine.precision)
    from workers.backends.onnxruntime_backend import ONNXRuntimeBackend

    return ONNXRuntimeBackend(part)


def selftest_through(
    loaded: LoadedBundle, backend: Backend, closer: Backend | None, largest_batch: int, tolerance: float | None = None
) -> float:
    """`run_selftest` through backends, with batches of the size that serves."""

    def compute(images: NDArray[np.uint8], backend: Backend) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        placed = images.astype(np.float32) / np.float32(255)
        outputs = [backend.launch(placed[at : at + largest_batch])() for at in range(0, len(placed), largest_batch)]
        return np.concatenate([each.logits for each in outputs]), np.concatenate([each.dense for each in outputs])

    return run_selftest(
        loaded,
        lambda images: compute(images, backend),
        tolerance,
        None if closer is None else lambda crops: compute(crops, closer)[1],
    )


def device_name(device: str) -> str:
    """The model of a device, so that a tuning is used on its like only."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {available_cores()} cores"


def versions() -> dict[str, str]:
    """Of the packages that compute, as far as they are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _chosen(
    loaded: LoadedBundle,
    engine: EngineChoice,
    device: str,
    largest_batch: int,
    reason: str,
    tolerance: float | None = None,
) -> Chosen:
    backend = make_backend(loaded, engine, device, largest_batch)
    closer = make_closer(loaded, engine, device, largest_batch)
    difference = selftest_through(loaded, backend, closer, largest_batch, tolerance)
    return Chosen(backend, closer, loaded.manifest, loaded.digest, reason, difference)


def _recorded(loaded: LoadedBundle, device: str) -> tuple[DeviceTuning | None, str]:
    """The tuning that holds for the bundle on the device, and why it is so."""
    try:
        tuning = read_tuning(loaded.folder)
    except BundleError as error:
        return None, str(error)
    if tuning is None:
        return None, "not tuned: `chexnode bundle tune` finds the fastest engine for this device"
    if tuning.bundle_digest != loaded.digest:
        return None, "tuned for another content of the bundle: tune it again"
    name = device_name(device)
    tuned = next((each for each in tuning.devices if each.device == name), None)
    if tuned is None:
        return None, f"not tuned for {name}"
    if tuned.versions != versions():
        return None, "tuned with other versions of torch or the accelerators: tune it again"
    return tuned, "tuned"
