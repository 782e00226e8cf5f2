"""How plainly the courses of devices show: whether one is there is decided from class and course together.

Called by whoever chooses operating points: training/calibration/local_logits.py, training/regeneration/look_making.py.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from schemas.bundle import Manifest
from schemas.codes import Device
from workers.output import Closer
from workers.placement import Placement
from workers.tubes import Maps, course_score
from workers.two_looks import read_closer


def traced_devices(manifest: Manifest) -> list[Device]:
    """Those that a class and a course of the bundle answer."""
    targets = [str(scored.target) for scored in manifest.classes]
    return [each for each in Device if each.presence_target in targets and each.segment in manifest.channels]


def course_scores(
    dense: Tensor, placements: Sequence[Placement], closers: Sequence[Closer | None], manifest: Manifest
) -> dict[str, list[float]]:
    """By presence target a score 0..1 for each of n images, as interpretation has it.

    Parameters
    ----------
    dense : [n, channels, h, w], logits
    placements : [n], how the images lie in the input
    closers : [n], the second look at each; None: there was none
    """
    found: dict[str, list[float]] = {each.presence_target: [] for each in traced_devices(manifest)}
    if manifest.dense is None or not found:
        return found
    # As outputs are stored, and so as they are interpreted.
    for channels, placement, closer in zip(dense.half().float().cpu().numpy(), placements, closers, strict=True):
        looked = None if closer is None else read_closer(closer, manifest, placement)
        logits = dict(zip(manifest.channels, np.asarray(channels, np.float32), strict=True))
        maps = Maps(logits, manifest.dense.stride, placement)
        for device in traced_devices(manifest):
            score = course_score(device, maps, looked)
            assert score is not None
            found[device.presence_target].append(score)
    return found
