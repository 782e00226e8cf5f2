"""The trivial baseline beside every AUROC: logistic regression on an 8 x 8 thumbnail."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

_SIDE = 8


class Labelled(Protocol):
    """Placed images with what is known of them."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """uint8 [n, S, S]."""

    @property
    def classes(self) -> NDArray[np.float32]:
        """float32 [n, classes], 1 present, 0 absent, NaN where it is unknown or makes no sense."""


class ThumbnailBaseline:
    """One logistic regression per class, fitted on images that the network learned from."""

    def __init__(self, learned: Labelled) -> None:
        thumbnails = np.stack([_thumbnail(image) for image in learned.images])
        self._models = [_fitted(thumbnails, truth) for truth in learned.classes.T]

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Scores float64 [n, classes] of placed images uint8 [n, S, S]; 0.5 where a class had one truth only."""
        thumbnails = np.stack([_thumbnail(image) for image in images])
        columns = [
            np.full(len(images), 0.5) if model is None else model.predict_proba(thumbnails)[:, 1]
            for model in self._models
        ]
        return np.stack(columns, axis=1)


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    cell = len(image) // _SIDE
    blocks = image[: _SIDE * cell, : _SIDE * cell].reshape(_SIDE, cell, _SIDE, cell)
    return np.asarray(blocks.mean(axis=(1, 3)).ravel() / 255)


def _fitted(thumbnails: NDArray[np.float64], truth: NDArray[np.float32]) -> Pipeline | None:
    applies = np.isfinite(truth)
    if len(np.unique(truth[applies] > 0.5)) < 2:
        return None
    model: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return model.fit(thumbnails[applies], truth[applies] > 0.5)
