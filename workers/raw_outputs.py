"""Everything that a bundle computes for normalised arrays. Called by `chexnode bundle run` and benchmarks/golden.py."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from schemas.errors import ArrayError
from workers.bundle import LoadedBundle
from workers.networks.vit import PATCH


def read_input(path: Path, channels: int) -> NDArray[np.float32]:
    """Normalised images float32 [B, channels, H, W] from a .npy file.

    Raises ArrayError for another type or shape, sides that are no multiples of 16, and values that are not finite.
    """
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        # numpy's own words advise to allow pickle, which is no good advice.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it has another format"
        raise ArrayError(f"{path} is no .npy file of numbers ({reason}): write it with numpy.save.") from error
    if not isinstance(images, np.ndarray):
        raise ArrayError(f"{path} holds several arrays; numpy.save one of them.")
    if images.dtype != np.float32:
        raise ArrayError(f"{path} is {images.dtype}, not float32: normalise it, then use .astype(numpy.float32).")
    if images.ndim != 4 or images.shape[1] != channels or not images.size:
        raise ArrayError(
            f"{path} has the shape {list(images.shape)}; this bundle takes [B, {channels}, H, W]: "
            "add or move axes, for example with numpy.expand_dims."
        )
    if images.shape[2] % PATCH or images.shape[3] % PATCH:
        raise ArrayError(
            f"{path} has images of {images.shape[2]} x {images.shape[3]}, which are no multiples of {PATCH}: "
            "resize, pad or crop them."
        )
    if not np.isfinite(images).all():
        raise ArrayError(f"{path} holds values that are not finite: replace them, for example with numpy.nan_to_num.")
    return np.ascontiguousarray(images)


def raw_outputs(bundle: LoadedBundle, images: NDArray[np.float32], batch: int) -> dict[str, NDArray[np.float32]]:
    """Arrays for .npz: logits, attention, patch_tokens, cls_token, and dense where there is such a head.

    Parameters
    ----------
    images : float32 [B, channels, H, W], normalised
    batch : how many are computed at a time

    Raises ArrayError when the network takes no images of this size.
    """
    parts: dict[str, list[NDArray[np.float32]]] = {}
    starts = range(0, len(images), batch)
    for start in track(starts, description="running", disable=len(starts) < 2):
        try:
            with torch.inference_mode():
                features = bundle.network.backbone(torch.from_numpy(images[start : start + batch]))
                output = bundle.network.heads(features)
        except (RuntimeError, ValueError) as error:
            raise ArrayError(
                f"The network takes no images of {images.shape[2]} x {images.shape[3]} ({error}); "
                f"resize them to {bundle.manifest.preprocessing.size} x {bundle.manifest.preprocessing.size}, "
                "for which it was made."
            ) from error
        tensors = {
            "logits": output.logits,
            "attention": output.attention,
            "patch_tokens": features.patches[-1],
            "cls_token": features.cls[-1],
        }
        if bundle.manifest.dense is not None:
            tensors["dense"] = output.dense
        for name, tensor in tensors.items():
            parts.setdefault(name, []).append(tensor.numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
