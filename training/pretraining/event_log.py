"""Curves for TensorBoard: `tensorboard --logdir FOLDER` reads them while a training writes. Called by trainer.py."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tensorboardX import SummaryWriter


class EventLog:
    """Scalars in the folder, by step; of a training that went on, those from its step on replace what was there."""

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=step or None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, step: int, group: str, values: Mapping[str, float]) -> None:
        """Each value as group/name; what is not known (NaN) is not drawn."""
        for name, value in values.items():
            if not math.isfinite(value):
                continue
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def flush(self) -> None:
        self._writer.flush()
