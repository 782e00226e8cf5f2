"""What features are worth while they are learned: nearest neighbours and a linear layer on images that are held out.

A cheap look, not an evaluation: that is training/protocols. Called by trainer.py.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from schemas.preprocessing import Preprocessing
from training.evaluation.statistics import auroc
from training.pretraining.store import Store
from training.pretraining.views import View
from workers.bundle import normalise

_NEIGHBOURS = 20
_BATCH = 32
_LEAST_CASES = 5


@dataclass(frozen=True)
class Probed:
    """Mean AUROC over the targets that both halves have cases of; NaN when there is none."""

    neighbours: float
    linear: float


@dataclass(frozen=True, eq=False)
class Probe:
    """Asks features about validation images; every second patient is learned from, the others are asked about."""

    store: Store
    targets: Sequence[str]
    size: int
    #: The network's; its mean and standard deviation are used.
    preprocessing: Preprocessing

    def ask(self, features_of: Callable[[Tensor], Tensor], device: torch.device) -> Probed:
        """`features_of` gives [B, D] for normalised images [B, channels, S, S]."""
        features = self._features(features_of, device)
        _, patient = np.unique(self.store.owners, return_inverse=True)
        bank, asked = patient % 2 == 0, patient % 2 == 1
        truth = self.store.labels_of(self.targets)
        by_neighbours, by_layer = [], []
        for column in truth.T:
            known = np.isfinite(column)
            if not all(_both(column[known & half]) for half in (bank, asked)):
                continue
            learned, shown = known & bank, known & asked
            scores = _neighbours(features[learned], column[learned], features[shown])
            by_neighbours.append(auroc(np.stack([scores, column[shown]], axis=1)))
            scores = _layer(features[learned], column[learned], features[shown])
            by_layer.append(auroc(np.stack([scores, column[shown]], axis=1)))
        if not by_neighbours:
            return Probed(math.nan, math.nan)
        return Probed(float(np.mean(by_neighbours)), float(np.mean(by_layer)))

    def _features(self, features_of: Callable[[Tensor], Tensor], device: torch.device) -> NDArray[np.float32]:
        parts = []
        with torch.no_grad():
            for start in range(0, len(self.store), _BATCH):
                rows = np.arange(start, min(start + _BATCH, len(self.store)))
                images = torch.from_numpy(self.store.images.take(rows))
                parts.append(features_of(whole_images(images, self.size, self.preprocessing, device)))
        features: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
        return features


def whole_images(images: Tensor, size: int, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """Squares uint8 [B, S, S] as the network sees them whole: float32 [B, channels, size, size], normalised."""
    floats = images.to(device).float()[:, None] / 255
    return normalise(View.whole(floats, size)[:, 0], preprocessing)


def _both(truth: NDArray[np.float32]) -> bool:
    return min(int((truth > 0.5).sum()), int((truth <= 0.5).sum())) >= _LEAST_CASES


def _neighbours(
    bank: NDArray[np.float32], truth: NDArray[np.float32], asked: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Share of present among the nearest of the bank by cosine, weighted by exp(cosine / 0.1) (arXiv 1805.01978)."""
    near = _unit(asked) @ _unit(bank).T
    count = min(_NEIGHBOURS, near.shape[1])
    chosen = np.argpartition(-near, count - 1, axis=1)[:, :count]
    weights = np.exp(np.take_along_axis(near, chosen, axis=1) / 0.1)
    shares: NDArray[np.float64] = (weights * truth[chosen]).sum(axis=1) / weights.sum(axis=1)
    return shares


def _layer(bank: NDArray[np.float32], truth: NDArray[np.float32], asked: NDArray[np.float32]) -> NDArray[np.float64]:
    mean, std = bank.mean(axis=0), bank.std(axis=0) + 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        layer = LogisticRegression(C=0.01, max_iter=100).fit((bank - mean) / std, truth > 0.5)
    scores: NDArray[np.float64] = layer.decision_function((asked - mean) / std)
    return scores


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)
    return unit
