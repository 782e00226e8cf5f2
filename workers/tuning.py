"""Measures every engine that is installed on a device and chooses the fastest that keeps the accuracy stated here.

Called by `chexnode bundle tune`; what it finds is read by engine processes when they start (backends/choice.py).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import inf
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.bundle import DenseHead, Manifest, SecondLookHead, read_manifest
from schemas.codes import Landmark, Segment
from schemas.errors import BundleError
from schemas.preprocessing import Intensity
from schemas.settings import WorkerSettings
from schemas.tuning import MOST_SELFTEST_DIFFERENCE, REFERENCE, DeviceTuning, EngineChoice, MeasuredEngine
from workers.backends.backend import Backend, Outputs
from workers.backends.choice import device_name, make_backend, make_closer, selftest_through, versions
from workers.bundle import SELFTEST_FILE, load_bundle
from workers.calibration import class_scores
from workers.devices import available_cores
from workers.landmark import locate
from workers.placement import Placement
from workers.preparation import Prepared
from workers.second_look import Crop, Detail, crop_for, detail_preprocessing

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


@dataclass(frozen=True, eq=False)
class _Looks:
    """What an engine gives for the tuner's images, batch by batch."""

    first: list[Outputs]
    #: Of a crop of each image; empty without a second look.
    closer: list[Outputs]


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
    """Measures engines for the bundle in `folder` on one device, over images as they are prepared for it."""

    def __init__(self, folder: Path, device: str, images: Sequence[Prepared], settings: WorkerSettings) -> None:
        self._folder = folder
        self._manifest = read_manifest(folder)
        self._device = device
        self._images = np.stack([each.pixels for each in images])
        self._details = [each.detail for each in images if each.detail is not None]
        #: float32 [n, side, side], chosen by the reference, so that every engine looks at the same.
        self._crops: NDArray[np.float32] = np.zeros((0, 1, 1), np.float32)
        self._batch = 1 if device == "cpu" else settings.batch
        # Half of what an engine process is allowed, since then it may share the host with others.
        self._most_start_seconds = settings.engine_start_seconds / 2
        self._reference: _Looks | None = None
        torch.set_num_threads(available_cores())

    def measure(self, engine: EngineChoice, step: Callable[[], None] = lambda: None) -> MeasuredEngine:
        """Speed and differences of an engine; the first one measured has to be the reference.

        `step` is called after each batch. Raises whatever keeps the engine from computing the network.
        """
        if engine.name != "torch":  # converted once: only later starts count
            unconverted = load_bundle(self._folder)
            make_backend(unconverted, engine, self._device, self._batch)
            make_closer(unconverted, engine, self._device, self._batch)
        started = perf_counter()
        loaded = load_bundle(self._folder)
        backend = make_backend(loaded, engine, self._device, self._batch)
        closer = make_closer(loaded, engine, self._device, self._batch)
        selftest = selftest_through(loaded, backend, closer, self._batch, tolerance=inf)
        start_seconds = perf_counter() - started
        first = []
        for batch in self._batches(self._images):
            first.append(backend.launch(batch)())
            step()
        if closer is not None and not len(self._crops):
            self._crops = self._cut(first)
        looks = _Looks(first, [closer.launch(batch)() for batch in self._batches(self._crops)] if closer else [])
        reference = self._reference = self._reference or looks
        measured = MeasuredEngine(
            engine=engine,
            milliseconds_per_image=self._milliseconds(backend, closer),
            start_seconds=start_seconds,
            score_difference=_most(map(partial(_score_differences, loaded.manifest), first, reference.first)),
            flipped_decisions=_flipped_decisions(self._manifest, looks, reference),
            attention_difference=_most(map(_attention_differences, first, reference.first)),
            flipped_mask=_flipped_mask(self._manifest, looks, reference),
            landmark_shift=_landmark_shift(self._manifest, looks, reference),
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

    def _batches(self, images: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(images), self._batch):
            yield images[start : start + self._batch]

    def _cut(self, first: list[Outputs]) -> NDArray[np.float32]:
        """A crop of each image, its middle where there is nothing to look at."""
        head = self._manifest.second_look
        assert head is not None
        middle = Crop.centred(np.full(2, head.detail_size / 2), head)
        dense = np.concatenate([each.dense for each in first])
        crops = [
            (crop_for(maps, self._manifest, detail.placement) or middle).cut(detail.pixels)
            for maps, detail in zip(dense, self._details, strict=True)
        ]
        return np.stack(crops).astype(np.float32) / np.float32(255)

    def _milliseconds(self, backend: Backend, closer: Backend | None) -> float:
        """Of both looks at an image."""
        batch, crops = (np.resize(each, (self._batch, *each.shape[1:])) for each in (self._images, self._crops))
        times: list[float] = []
        while len(times) < _PASSES or sum(times) < _SECONDS:
            started = perf_counter()
            backend.launch(batch)()
            if closer is not None:
                closer.launch(crops)()
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


def selftest_images(folder: Path) -> list[Prepared]:
    """The inputs of the bundle's self-test and variations of them, always the same.

    For a second look they are enlarged. Raises BundleError when the bundle has no readable self-test.
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
    preprocessing = detail_preprocessing(read_manifest(folder))
    prepared = []
    for image in np.ascontiguousarray(np.concatenate(variations)):
        detail = None
        if preprocessing is not None:
            as_they_are = preprocessing.model_copy(update={"intensity": Intensity.WINDOW})
            placement = Placement.of(len(image), len(image), as_they_are)
            detail = Detail.of(image, placement)
        prepared.append(Prepared(image, detail))
    return prepared


def _most(differences: Iterable[NDArray[np.floating]]) -> float:
    """The 99th percentile of all; 0 when there are none."""
    every = np.concatenate([each.ravel() for each in differences])
    return float(np.percentile(every, 99)) if every.size else 0.0


def _score_differences(manifest: Manifest, ours: Outputs, reference: Outputs) -> NDArray[np.floating]:
    return np.abs(class_scores(ours.logits, manifest.classes) - class_scores(reference.logits, manifest.classes))


def _attention_differences(ours: Outputs, reference: Outputs) -> NDArray[np.floating]:
    """Of each map, as a share of its peak."""
    peaks = reference.attention.max(axis=(2, 3), initial=1e-6)
    return np.asarray(np.abs(ours.attention - reference.attention).max(axis=(2, 3), initial=0.0) / peaks)


def _flipped_decisions(manifest: Manifest, ours: _Looks, reference: _Looks) -> float:
    """Share of the decisions at the operating points, and whether a landmark is there, that come out otherwise."""
    flipped = _decisions(manifest, ours) != _decisions(manifest, reference)
    return float(flipped.mean()) if flipped.size else 0.0


def _decisions(manifest: Manifest, looks: _Looks) -> NDArray[np.bool_]:
    points = np.array([scored.operating_point or np.nan for scored in manifest.classes])
    known = np.isfinite(points)
    scores = [class_scores(outputs.logits, manifest.classes) for outputs in looks.first]
    present = [(each[:, known] >= points[known]).ravel() for each in scores]
    located = [point is not None for point in _landmarks(manifest, looks)]
    return np.concatenate([*present, np.array(located, bool)])


def _landmark_shift(manifest: Manifest, ours: _Looks, reference: _Looks) -> float:
    """Distance, model pixels, where both locate a landmark."""
    pairs = zip(_landmarks(manifest, ours), _landmarks(manifest, reference), strict=True)
    shifts = [float(np.hypot(*(one - other))) for one, other in pairs if one is not None and other is not None]
    return _most([np.array(shifts)])


def _landmarks(manifest: Manifest, looks: _Looks) -> list[NDArray[np.float64] | None]:
    """All that are looked for, in model pixels; None: not located."""
    points: list[NDArray[np.float64] | None] = []
    for head, outputs in _heads(manifest, looks):
        # A pixel of the detail image is finer.
        scale = manifest.preprocessing.size / head.detail_size if isinstance(head, SecondLookHead) else 1.0
        for dense in (maps for each in outputs for maps in each.dense):
            for channel, heat in zip(head.channels, dense, strict=True):
                if isinstance(channel, Landmark):
                    peak = locate(heat, head.stride)
                    points.append(None if peak is None else np.array([peak.x, peak.y]) * scale)
    return points


def _flipped_mask(manifest: Manifest, ours: _Looks, reference: _Looks) -> float:
    """Greatest share over the segments of pixels that are in one mask only, among those in either."""
    worst = 0.0
    for (head, outputs), (_, expected) in zip(_heads(manifest, ours), _heads(manifest, reference), strict=True):
        for index, channel in enumerate(head.channels):
            if isinstance(channel, Segment):
                mask = np.concatenate([each.dense[:, index] for each in outputs]) > 0
                wanted = np.concatenate([each.dense[:, index] for each in expected]) > 0
                worst = max(worst, float((mask != wanted).sum()) / max(1, int((mask | wanted).sum())))
    return worst


def _heads(manifest: Manifest, looks: _Looks) -> Iterator[tuple[DenseHead | SecondLookHead, list[Outputs]]]:
    """The heads that give maps, and what they gave."""
    if manifest.dense is not None:
        yield manifest.dense, looks.first
    if manifest.second_look is not None:
        yield manifest.second_look, looks.closer
