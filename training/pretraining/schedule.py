"""Where a training is, and quantities that change with it: rates, decays, temperatures, momenta.

Used by recipes, methods and the trainer; a value follows from the step alone, so nothing of it is kept.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True)
class Moment:
    """Step `step` (from 0) of `steps`."""

    step: int
    steps: int


class Ramp(BaseModel):
    """From `start` to `end` over the first `over` steps (None: all of them), and `end` from then on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: float
    end: float
    shape: Literal["linear", "cosine"] = "cosine"
    over: Annotated[int, Field(ge=1)] | None = None

    def at(self, moment: Moment) -> float:
        done = min(1.0, moment.step / max(1, self.over or moment.steps))
        share = done if self.shape == "linear" else 0.5 * (1 - math.cos(math.pi * done))
        return self.start + (self.end - self.start) * share


def warmed_up_cosine(moment: Moment, peak: float, end: float, warm_up: int) -> float:
    """Linear from nearly 0 to `peak` over `warm_up` steps, then half a cosine to `end`."""
    if moment.step < warm_up:
        return peak * (moment.step + 1) / (warm_up + 1)
    after = Moment(moment.step - warm_up, max(1, moment.steps - warm_up))
    return Ramp(start=peak, end=end).at(after)
