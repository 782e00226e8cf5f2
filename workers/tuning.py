"""Measures every engine that is installed on a device and chooses the fastest that keeps the accuracy stated here.

Called by `chexnode bundle tune`; what it finds is read by engine processes when they start (backends/choice.py).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.bundle import Manifest
from schemas.codes import Landmark, Segment
from schemas.errors import BundleError
from schemas.settings import WorkerSettings
from schemas.tuning import MOST_SELFTEST_DIFFERENCE, REFERENCE, DeviceTuning, EngineChoice, MeasuredEngine
from workers.backends.backend import Backend, Outputs
from workers.backends.choice import device_name, make_backend, selftest_compute, versions
from workers.bundle import SELFTEST_FILE, load_bundle, run_selftest
from workers.devices import available_cores
from workers.landmark import locate, sigmoid

#: What an engine may differ by from eager float32 and still be chosen. Of scores, landmarks and evidence maps one in a
#: hundred may exceed it, or the bounds would be the tighter, the more images they are measured on. A score of 0.02 is
#: far inside the uncertainty of any operating point; one model pixel is about a millimetre on a chest; evidence maps
#: are looked at, not measured.
MOST_SCORE_DIFFERENCE = 0.02
MOST_FLIPPED_DECISIONS = 0.005
MOST_LANDMARK_SHIFT = 1.0
MOST_FLIPPED_MASK = 0.02
MOST_ATTENTION_DIFFERENCE = 0.1

#: A pass is timed until it has run so often and so long.
_PASSES, _SECONDS = 5, 1.0


@dataclass(frozen=True)
class Candidate:
    """An engine that can be tried on the device, or why it cannot."""

    engine: EngineChoice
    missing: str = ""


def candidates(device: str) -> list[Candidate]:
    """Every engine for the device, eager float32 first."""
    eager_bfloat16 = EngineChoice(precision="bfloat16")
    if device != "cpu":
        compiled = EngineChoice(precision="bfloat16", compiled=True)
        return [Candidate(REFERENCE), Candidate(eager_bfloat16), Candidate(compiled)]
    openvino = "" if find_spec("openvino") else "openvino is not installed: pip install 'chexnode[acceleration]'"
    onnx = all(find_spec(name) for name in ("onnxruntime", "onnx", "onnxscript"))
    onnxruntime = "" if onnx else "onnxruntime is not installed: pip install 'chexnode[acceleration]'"
    return [
        Candidate(REFERENCE),
        Candidate(eager_bfloat16),
        Candidate(EngineChoice(name="openvino"), openvino),
        Candidate(EngineChoice(name="openvino", precision="bfloat16"), openvino),
        Candidate(EngineChoice(name="onnxruntime"), onnxruntime),
    ]


class Tuner:
    """Measures engines for the bundle in `folder` on one device, over placed images float32 [n, S, S] in 0..1."""

    def __init__(self, folder: Path, device: str, images: NDArray[np.float32], settings: WorkerSettings) -> None:
        self._folder = folder
        self._device = device
        self._images = images
        self._batch = 1 if device == "cpu" else settings.batch
        # Half of what an engine process is allowed, since then it may share the host with others.
        self._most_start_seconds = settings.engine_start_seconds / 2
        self._reference: list[Outputs] = []
        self._reference_milliseconds = 0.0
        torch.set_num_threads(available_cores())

    def measure(self, engine: EngineChoice, step: Callable[[], None] = lambda: None) -> MeasuredEngine:
        """Speed and differences of an engine; the first one measured has to be the reference.

        `step` is called after each batch. Raises whatever keeps the engine from computing the network.
        """
        if engine.name != "torch":  # converted once: only later starts count
            make_backend(load_bundle(self._folder), engine, self._device, self._batch)
        started = perf_counter()
        loaded = load_bundle(self._folder)
        backend = make_backend(loaded, engine, self._device, self._batch)
        selftest = run_selftest(loaded, selftest_compute(backend, self._batch), tolerance=inf)
        start_seconds = perf_counter() - started
        outputs = []
        for batch in self._batches():
            outputs.append(backend.launch(batch)())
            step()
        self._reference = self._reference or outputs
        measured = MeasuredEngine(
            engine=engine,
            milliseconds_per_image=self._milliseconds(backend),
            start_seconds=start_seconds,
            score_difference=_most(map(_score_differences, outputs, self._reference)),
            flipped_decisions=_flipped_decisions(loaded.manifest, outputs, self._reference),
            attention_difference=_most(map(_attention_differences, outputs, self._reference)),
            flipped_mask=_flipped_mask(loaded.manifest, outputs, self._reference),
            landmark_shift=_landmark_shift(loaded.manifest, outputs, self._reference),
            selftest_difference=selftest,
        )
        return measured.model_copy(update={"refused": self.refused(measured)})

    def choose(self, measured: list[MeasuredEngine]) -> DeviceTuning:
        """The fastest engine that keeps the accuracy."""
        best = min((each for each in measured if not each.refused), key=lambda each: each.milliseconds_per_image)
        return DeviceTuning(
            device=device_name(self._device),
            versions=versions(),
            choice=best.engine,
            selftest_difference=best.selftest_difference,
            images=len(self._images),
            measured=measured,
        )

    def _batches(self) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(self._images), self._batch):
            yield self._images[start : start + self._batch]

    def _milliseconds(self, backend: Backend) -> float:
        batch = np.resize(self._images, (self._batch, *self._images.shape[1:]))
        times: list[float] = []
        while len(times) < _PASSES or sum(times) < _SECONDS:
            started = perf_counter()
            backend.launch(batch)()
            times.append(perf_counter() - started)
        # The best one: what else this host was doing meanwhile slows some of them.
        return min(times) * 1000 / len(batch)

    def refused(self, measured: MeasuredEngine) -> str:
        """The bounds that are exceeded; empty for the reference, whatever it is."""
        if measured.engine == REFERENCE:
            return ""
        bounds = [
            ("scores differ by", measured.score_difference, MOST_SCORE_DIFFERENCE),
            ("decisions flipped", measured.flipped_decisions, MOST_FLIPPED_DECISIONS),
            ("landmarks shift by", measured.landmark_shift, MOST_LANDMARK_SHIFT),
            ("mask pixels flipped", measured.flipped_mask, MOST_FLIPPED_MASK),
            ("evidence maps differ by", measured.attention_difference, MOST_ATTENTION_DIFFERENCE),
            ("outputs of the self-test differ by", measured.selftest_difference, MOST_SELFTEST_DIFFERENCE),
            ("seconds to start", measured.start_seconds, self._most_start_seconds),
        ]
        return "; ".join(f"{what} {value:.3g}, bound {bound:g}" for what, value, bound in bounds if not value <= bound)


def selftest_images(folder: Path) -> NDArray[np.float32]:
    """The inputs of the bundle's self-test and variations of them: float32 [n, S, S] in 0..1, always the same.

    Raises BundleError when the bundle has no readable self-test.
    """
    try:
        with np.load(folder / SELFTEST_FILE, allow_pickle=False) as stored:
            originals = stored["images"][:4].astype(np.float32) / 255
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"{folder / SELFTEST_FILE} is no self-test: {error}") from error
    noise = np.random.default_rng(0).normal(0, 0.02, originals.shape).astype(np.float32)
    variations = [
        originals,
        originals**0.8,
        originals**1.25,
        np.clip(originals + noise, 0, 1),
        np.roll(originals, originals.shape[-1] // 32, axis=-1),
        originals[:, :, ::-1],
    ]
    return np.ascontiguousarray(np.concatenate(variations))


def _most(differences: Iterable[NDArray[np.floating]]) -> float:
    """The 99th percentile of all; 0 when there are none."""
    every = np.concatenate([each.ravel() for each in differences])
    return float(np.percentile(every, 99)) if every.size else 0.0


def _score_differences(ours: Outputs, reference: Outputs) -> NDArray[np.floating]:
    return np.abs(sigmoid(ours.logits) - sigmoid(reference.logits))


def _attention_differences(ours: Outputs, reference: Outputs) -> NDArray[np.floating]:
    """Of each map, as a share of its peak."""
    peaks = reference.attention.max(axis=(2, 3), initial=1e-6)
    return np.asarray(np.abs(ours.attention - reference.attention).max(axis=(2, 3), initial=0.0) / peaks)


def _flipped_decisions(manifest: Manifest, ours: list[Outputs], reference: list[Outputs]) -> float:
    """Share of the decisions at the operating points, and whether a landmark is there, that come out otherwise."""
    decided = [_decisions(manifest, each) for each in ours]
    wanted = [_decisions(manifest, each) for each in reference]
    flipped = np.concatenate(decided) != np.concatenate(wanted)
    return float(flipped.mean()) if flipped.size else 0.0


def _decisions(manifest: Manifest, outputs: Outputs) -> NDArray[np.bool_]:
    points = np.array([scored.operating_point or np.nan for scored in manifest.classes])
    known = np.isfinite(points)
    present = sigmoid(outputs.logits)[:, known] >= points[known]
    located = [point is not None for point in _landmarks(manifest, outputs)]
    return np.concatenate([present.ravel(), np.array(located, bool)])


def _landmark_shift(manifest: Manifest, ours: list[Outputs], reference: list[Outputs]) -> float:
    """Distance, model pixels, where both locate a landmark."""
    shifts = []
    for one, other in zip(ours, reference, strict=True):
        for point, wanted in zip(_landmarks(manifest, one), _landmarks(manifest, other), strict=True):
            if point is not None and wanted is not None:
                shifts.append(float(np.hypot(*(point - wanted))))
    return _most([np.array(shifts)])


def _landmarks(manifest: Manifest, outputs: Outputs) -> list[NDArray[np.float64] | None]:
    stride = manifest.dense.stride if manifest.dense else 1
    points: list[NDArray[np.float64] | None] = []
    for dense in outputs.dense:
        for channel, heat in zip(manifest.channels, dense, strict=True):
            if isinstance(channel, Landmark):
                peak = locate(heat, stride)
                points.append(None if peak is None else np.array([peak.x, peak.y]))
    return points


def _flipped_mask(manifest: Manifest, ours: list[Outputs], reference: list[Outputs]) -> float:
    """Greatest share over the segments of pixels that are in one mask only, among those in either."""
    worst = 0.0
    for index, channel in enumerate(manifest.channels):
        if isinstance(channel, Segment):
            mask = np.concatenate([each.dense[:, index] for each in ours]) > 0
            wanted = np.concatenate([each.dense[:, index] for each in reference]) > 0
            worst = max(worst, float((mask != wanted).sum()) / max(1, int((mask | wanted).sum())))
    return worst
