"""The trivial baseline beside every AUROC: logistic regression on an 8 x 8 thumbnail."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.pool import Pool

_SIDE = 8


class ThumbnailBaseline:
    """One logistic regression per class, fitted on a part of the training pool."""

    def __init__(self, pool: Pool) -> None:
        thumbnails = np.stack([_thumbnail(image) for image in pool.images])
        self._models = [_fitted(thumbnails, truth) for truth in pool.classes.T]

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
    if len(np.unique(truth[applies])) < 2:
        return None
    model: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return model.fit(thumbnails[applies], truth[applies])
