"""Model bundles on disk: written by training, read and checked by the inference engine before it serves."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TypeAlias
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from schemas.bundle import MANIFEST_FILE, Manifest, SecondLookHead, bundle_digest, read_manifest
from schemas.errors import BundleError
from schemas.preprocessing import Preprocessing
from workers.networks.network import Network, build_network

CARD_FILE = "card.md"
SELFTEST_FILE = "selftest.npz"
#: Greatest difference of any logit that another CPU or build of torch may show; a different network shows far more.
SELFTEST_TOLERANCE = 0.05

#: Half a unit in the last place of float16, as a share.
_HALF_UNIT = np.float32(2.0**-11)

_ADVICE = "Fetch the bundle again, or import its weights again."

#: Computes (logits [n, K], dense logits [n, C, h, w]), float32, for images uint8 [n, S, S] before normalisation.
Compute: TypeAlias = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
#: Computes the second look's logits [n, C, h, w], float32, for crops uint8 [n, side, side] before normalisation.
ComputeCloser: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class LoadedBundle:
    """A bundle ready to run."""

    manifest: Manifest
    #: SHA-256 (hex) over the whole folder.
    digest: str
    #: float32, evaluation mode.
    network: Network
    folder: Path


def load_bundle(folder: Path) -> LoadedBundle:
    """Load a bundle strictly: every tensor of the files is in the network and the other way round.

    Raises BundleError that names missing, unexpected and misshapen tensors.
    """
    manifest = read_manifest(folder)
    # Without storage: fresh weights of a large network take longer to draw than the stored ones to read.
    with torch.device("meta"):
        network = build_network(manifest)
    for file, module in _parts(manifest, network).items():
        _load_strictly(folder / file, module)
    return LoadedBundle(manifest, bundle_digest(folder), network.eval(), folder)


def write_bundle(
    folder: Path,
    manifest: Manifest,
    network: Network,
    card: str,
    selftest_images: NDArray[np.uint8],
    storage: torch.dtype = torch.float16,
    tolerance: float = SELFTEST_TOLERANCE,
) -> LoadedBundle:
    """Write a bundle and load it back; the folder appears, or is replaced, only when everything is written.

    Parameters
    ----------
    card : the model card, Markdown
    selftest_images : uint8 [n, S, S], inputs before normalisation (0..255 for 0..1)
    storage : floating-point type of the weights in the files
    tolerance : difference of an output from now on which another computer's is refused
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "heads").mkdir(parents=True)
    (partial / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (partial / CARD_FILE).write_text(card, encoding="utf-8")
    for file, module in _parts(manifest, network).items():
        save_file({name: _stored(tensor, storage) for name, tensor in module.state_dict().items()}, partial / file)
        # save_file makes it private to the user, but a service account has to read it.
        (partial / file).chmod(0o644)
    # Expected outputs come from the weights as stored, not from those in memory.
    written = load_bundle(partial)
    logits, dense = _forward(written, selftest_images)
    closer: dict[str, NDArray[np.generic]] = {}
    if manifest.second_look is not None:
        crops = _selftest_crops(selftest_images, manifest.second_look)
        closer = {"crops": crops, "closer": _forward_closer(written, crops).astype(np.float16)}
    np.savez_compressed(
        partial / SELFTEST_FILE,
        allow_pickle=False,
        images=selftest_images,
        logits=logits,
        dense=dense.astype(np.float16),
        cls_token=_cls_token(written, selftest_images),
        tolerance=np.float32(tolerance),
        **closer,
    )
    _replace(partial, folder)
    return replace(written, digest=bundle_digest(folder), folder=folder)


def copy_bundle(bundle: LoadedBundle, folder: Path, manifest: Manifest, card: str) -> LoadedBundle:
    """Write a bundle with the same weights and self-test, byte for byte, and another manifest and card; load it back.

    The folder appears, or is replaced, only when everything is written.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(bundle.folder, partial)
    (partial / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (partial / CARD_FILE).write_text(card, encoding="utf-8")
    written = load_bundle(partial)
    _replace(partial, folder)
    return replace(written, digest=bundle_digest(folder), folder=folder)


def run_selftest(
    bundle: LoadedBundle,
    compute: Compute | None = None,
    tolerance: float | None = None,
    compute_closer: ComputeCloser | None = None,
) -> float:
    """Run the bundle's own examples; the greatest difference of an output from the expected one.

    Parameters
    ----------
    compute : what is tested; by default the network in float32 with its class token
    tolerance : difference that is allowed instead of the one stated in the bundle
    compute_closer : what is tested of a bundle's second look; by default the network's own

    Raises BundleError when it is exceeded, or when there is no usable self-test.
    """
    path = bundle.folder / SELFTEST_FILE
    try:
        with np.load(path, allow_pickle=False) as stored:
            images, logits = stored["images"], stored["logits"]
            dense, cls_token = stored["dense"].astype(np.float32), stored["cls_token"]
            crops = closer = None
            if bundle.manifest.second_look is not None:
                crops, closer = stored["crops"], stored["closer"].astype(np.float32)
            allowed = float(stored["tolerance"]) if tolerance is None else tolerance
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise BundleError(f"{path} is no self-test: {reason}. {_ADVICE}") from error
    if not len(images) or (tolerance is None and not isfinite(allowed)):
        raise BundleError(f"{path} tests nothing: it holds no image, or allows any difference.")
    computed = [*(compute or (lambda images: _forward(bundle, images)))(images)]
    expected = [logits, dense]
    # Maps are stored as float16, which rounds the large ones: half a unit in the last place is no difference.
    roundings = [np.float32(0), np.abs(dense) * _HALF_UNIT]
    if crops is not None and closer is not None:
        computed.append((compute_closer or (lambda crops: _forward_closer(bundle, crops)))(crops))
        expected.append(closer)
        roundings.append(np.abs(closer) * _HALF_UNIT)
    if compute is None:
        computed.append(_cls_token(bundle, images))
        expected.append(cls_token)
        roundings.append(np.float32(0))
    if [each.shape for each in computed] != [each.shape for each in expected]:
        raise BundleError(f"{bundle.folder} gives outputs of another shape than its self-test expects.")
    # np.max and not max: one NaN among them has to come out.
    difference = float(
        np.max(
            [
                (np.abs(ours - theirs) - rounding).max(initial=0.0)
                for ours, theirs, rounding in zip(computed, expected, roundings, strict=True)
            ]
        )
    )
    if not difference <= allowed:
        raise BundleError(
            f"The self-test of {bundle.folder} differs by {difference:.3g} where {allowed:.3g} is allowed: "
            "the weights, the software or the hardware are not those it was made with."
        )
    return difference


def normalised(images: NDArray[np.uint8], preprocessing: Preprocessing) -> Tensor:
    """Network input float32 [n, channels, S, S] from placed images uint8 [n, S, S], 0..255 for 0..1."""
    return normalise(torch.from_numpy(np.array(images)).float() / 255, preprocessing)


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Network input float32 [n, channels, S, S] from placed images float32 [n, S, S] in 0..1."""
    mean, std = (
        torch.tensor(values, device=images.device)[None, :, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    return (images[:, None] - mean) / std


def _forward(bundle: LoadedBundle, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with torch.inference_mode():
        output = bundle.network(normalised(images, bundle.manifest.preprocessing))
    return output.logits.numpy(), output.dense.numpy()


def _forward_closer(bundle: LoadedBundle, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    assert bundle.network.second_look is not None
    with torch.inference_mode():
        logits: NDArray[np.float32] = bundle.network.second_look(
            normalised(crops, bundle.manifest.preprocessing)
        ).numpy()
    return logits


def _selftest_crops(images: NDArray[np.uint8], head: SecondLookHead) -> NDArray[np.uint8]:
    """The middles of images uint8 [n, S, S] at the second look's scale: uint8 [n, side, side]."""
    margin = (head.detail_size - head.crop) / 2 / head.detail_size
    return np.stack(
        [
            np.asarray(
                Image.fromarray(image).resize(
                    (head.crop, head.crop),
                    Image.Resampling.BILINEAR,
                    (margin * len(image), margin * len(image), (1 - margin) * len(image), (1 - margin) * len(image)),
                )
            )
            for image in images
        ]
    )


def _cls_token(bundle: LoadedBundle, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of the last block: says that a backbone without a head computes what it did."""
    with torch.inference_mode():
        features = bundle.network.backbone(normalised(images, bundle.manifest.preprocessing))
    token: NDArray[np.float32] = features.cls[-1].numpy()
    return token


def _parts(manifest: Manifest, network: Network) -> dict[str, nn.Module]:
    """Which file holds which part's tensors."""
    parts: dict[str, nn.Module] = {manifest.backbone_file: network.backbone}
    if manifest.classifier is not None and network.classifier is not None:
        parts[manifest.classifier.file] = network.classifier
    if manifest.dense is not None and network.dense is not None:
        parts[manifest.dense.file] = network.dense
    if manifest.second_look is not None and network.second_look is not None:
        parts[manifest.second_look.file] = network.second_look
    return parts


def _stored(tensor: Tensor, storage: torch.dtype) -> Tensor:
    return (tensor.to(storage) if tensor.is_floating_point() else tensor).contiguous()


def _load_strictly(path: Path, module: nn.Module) -> None:
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path} cannot be read: {error}. {_ADVICE}") from error
    own = module.state_dict()
    problems = {
        "missing": sorted(own.keys() - stored.keys()),
        "unexpected": sorted(stored.keys() - own.keys()),
        "of another shape": sorted(n for n in own.keys() & stored.keys() if own[n].shape != stored[n].shape),
        "not finite": sorted(n for n, tensor in stored.items() if not tensor.isfinite().all()),
    }
    found = "; ".join(f"{what}: {', '.join(names)}" for what, names in problems.items() if names)
    if found:
        raise BundleError(f"{path} does not fit the manifest's network. Tensors {found}. {_ADVICE}")
    # Copies: safetensors maps the file, whose bytes somebody may change while the network serves.
    float32 = {n: t.to(torch.float32, copy=True) if t.is_floating_point() else t.clone() for n, t in stored.items()}
    module.load_state_dict(float32, strict=True, assign=True)


def _replace(partial: Path, folder: Path) -> None:
    """Put the finished folder in its place; a crash leaves the old one (perhaps as .old) or the new one."""
    for path in partial.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
