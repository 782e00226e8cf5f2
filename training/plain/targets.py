"""What the network is to learn, in the order in which a manifest lists it."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from schemas.codes import Finding, Landmark, Segment
from training.plain.phantom.truth import Phantom

Target = Finding | Literal["endotracheal_tube.presence", "endotracheal_tube.malposition"]

#: The findings that a phantom can show, in the order of the shipped bundle's classes.
FINDINGS: tuple[Finding, ...] = (
    Finding.PLEURAL_EFFUSION,
    Finding.PNEUMOTHORAX,
    Finding.CONSOLIDATION,
    Finding.CARDIOMEGALY,
    Finding.NODULE,
)
#: Classes of the GLoRI head.
CLASSES: tuple[Target, ...] = (
    *FINDINGS,
    "endotracheal_tube.presence",
    "endotracheal_tube.malposition",
)
#: Channels of the dense head: `training.plain.phantom.truth.SEGMENTS`, then the landmarks.
CHANNELS: tuple[Segment | Landmark, ...] = (
    Segment.RIGHT_LUNG,
    Segment.LEFT_LUNG,
    Segment.HEART,
    Segment.ENDOTRACHEAL_TUBE,
    Landmark.ENDOTRACHEAL_TUBE_TIP,
    Landmark.CARINA,
)


def class_truth(phantom: Phantom) -> NDArray[np.float32]:
    """float32 [classes]: 1 present, 0 absent, NaN where the question makes no sense (position of no tube)."""
    truth = {finding: float(finding in phantom.findings) for finding in FINDINGS}
    tube = phantom.tube
    position = math.nan if tube is None else float(tube.malpositioned)
    return np.array([*truth.values(), float(tube is not None), position], dtype=np.float32)


def landmark_truth(phantom: Phantom) -> NDArray[np.float32]:
    """float32 [2, 2]: (x, y) of tube tip and carina in image pixels; NaN for the tip of no tube."""
    tip = (math.nan, math.nan) if phantom.tube is None else (phantom.tube.tip.x, phantom.tube.tip.y)
    return np.array([tip, (phantom.carina.x, phantom.carina.y)], dtype=np.float32)
