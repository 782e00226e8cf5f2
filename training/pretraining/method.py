"""What the trainer asks of a method, and what it gets back.

Implemented by dinov2.py, mae.py, gmml.py, sit.py and moco_v2.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from training.pretraining.draws import Draws
from training.pretraining.schedule import Moment
from workers.networks.features import Backbone


class MethodSettings(BaseModel):
    """The part of a recipe that is the method's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Loss:
    """Of one batch on one process."""

    #: Scalars whose sum is minimised, by name.
    parts: dict[str, Tensor]
    #: Scalars that show a collapse before the loss does, without gradient.
    monitors: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """A pre-training method with all of its networks; its state is all that a checkpoint needs of it."""

    @property
    @abstractmethod
    def kept(self) -> Backbone:
        """What is used afterwards: the network that learns, or where there is one the moving average."""

    @abstractmethod
    def forward(self, views: Sequence[Tensor], draws: Draws, moment: Moment) -> Loss:
        """The loss of B images.

        Parameters
        ----------
        views : normalised, each [B, channels, S, S], in the recipe's order, `View.count` of each
        draws : for the method's own randomness
        """

    def features(self, images: Tensor) -> Tensor:
        """What the kept backbone says of normalised images, for the probes: float32 [B, width]."""
        features = self.kept(images)
        return torch.cat([features.cls[-1], features.patches[-1].mean(dim=1)], dim=1).float()

    def after_step(self, moment: Moment) -> None:
        """Moves the moving average, where there is one."""

    def standing_still(self, moment: Moment) -> list[nn.Parameter]:
        """Parameters whose rate is 0 at this step, although the optimizer sees their gradients."""
        return []

    def clipped_apart(self) -> list[nn.Module]:
        """Parts whose gradients are clipped each by itself."""
        return [self]

    def resized(self, name: str) -> bool:
        """Whether the tensor of the state belongs to positions, which another image size has other ones of."""
        return is_position(name)


def is_position(name: str) -> bool:
    """Whether a tensor of this name holds positions of a backbone's patches, [1, 1 + patches, width]."""
    return name.endswith("pos_embed")


def frozen_copy(fresh: nn.Module, of: nn.Module) -> None:
    """Make `fresh` begin as `of` and learn nothing by itself."""
    fresh.load_state_dict(of.state_dict())
    fresh.requires_grad_(False)


def spread(vectors: Tensor) -> Tensor:
    """Standard deviation of L2-normalised vectors [B, D] over the batch, times sqrt(D): 1 when they point everywhere
    alike, 0 when they are all the same (Chen and He, arXiv 2011.10566, 4.1)."""
    unit = nn.functional.normalize(vectors.detach().float(), dim=1)
    deviation: Tensor = unit.std(dim=0).mean() * vectors.shape[1] ** 0.5
    return deviation
