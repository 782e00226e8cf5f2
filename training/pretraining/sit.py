"""SiT (Atito et al., arXiv 2104.03602), the variant of GMML that also compares images: a student sees corrupted views,
its moving average the clean ones.

    s1, s2 = student(corrupted views)                   t1, t2 = teacher(clean views)
    contrast(s, t) = cross entropy of s . t' / 0.2 over the images t' of all processes, its own to be found
    loss = 2 * 0.2 * (contrast(s1, t2) + contrast(s2, t1)) + weight * mean |drawn - view| over changed pixels
    teacher <- m * teacher + (1 - m) * student
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from schemas.bundle import Architecture
from training.pretraining.draws import Draws
from training.pretraining.encoder import create_vit, encode, set_drop_path
from training.pretraining.gmml import PixelDecoder, pixel_error
from training.pretraining.group_masks import Corruption, corrupt
from training.pretraining.method import Loss, Method, MethodSettings, frozen_copy, spread
from training.pretraining.moving_average import move
from training.pretraining.parallel import gathered, place_of_this_process
from training.pretraining.schedule import Moment, Ramp
from training.pretraining.views import View
from workers.networks.vit import ViT


class SitSettings(MethodSettings):
    """By default as the public code has it."""

    kind: Literal["sit"]
    views: tuple[View, View]
    corruption: Corruption = Corruption(hidden=(0.5, 0.5), fill="zeros")
    drop_path: float = 0.1
    head_hidden: int = 4096
    head_width: int = 256
    temperature: float = 0.2
    #: Of the reconstruction; the authors take 5 for small sets.
    reconstruction_weight: float = 1.0
    teacher_momentum: Ramp = Ramp(start=0.996, end=1.0)


class _Branch(nn.Module):
    def __init__(self, settings: SitSettings, architecture: Architecture, side: int) -> None:
        super().__init__()
        self.backbone = create_vit(architecture, side)
        width, hidden = self.backbone.width, settings.head_hidden
        self.head = nn.Sequential(
            *(nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.GELU()),
            *(nn.Linear(hidden, settings.head_width, bias=False), nn.BatchNorm1d(settings.head_width, affine=False)),
        )
        self.head_recons = PixelDecoder(width, self.backbone.channels)


class Sit(Method):
    """Student and teacher for images of `side` pixels."""

    def __init__(self, settings: SitSettings, architecture: Architecture, side: int) -> None:
        super().__init__()
        self.settings = settings
        self.student = _Branch(settings, architecture, side)
        self.teacher = _Branch(settings, architecture, side)
        frozen_copy(self.teacher, self.student)
        set_drop_path(self.student.backbone, settings.drop_path, rising=True)

    @property
    def kept(self) -> ViT:
        return self.teacher.backbone

    def forward(self, views: Sequence[Tensor], draws: Draws, moment: Moment) -> Loss:
        learned, targets, errors = [], [], []
        for view in views:
            corrupted = corrupt(view, self.settings.corruption, draws)
            tokens = encode(self.student.backbone, corrupted.images)
            errors.append(pixel_error(self.student.head_recons(tokens.patches), view, corrupted))
            learned.append(self.student.head(tokens.cls))
            with torch.no_grad():
                targets.append(self.teacher.head(encode(self.teacher.backbone, view).cls))
        contrast = self._contrast(learned[0], targets[1]) + self._contrast(learned[1], targets[0])
        reconstruction = self.settings.reconstruction_weight * torch.stack(errors).mean()
        return Loss(
            {"contrast": 2 * self.settings.temperature * contrast, "reconstruction": reconstruction},
            {"feature_std": spread(targets[0])},
        )

    def after_step(self, moment: Moment) -> None:
        move(self.teacher, self.student, self.settings.teacher_momentum.at(moment))

    def _contrast(self, learned: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(learned.device.type, enabled=False):
            ours, theirs = F.normalize(learned.float(), dim=1), gathered(F.normalize(targets.float(), dim=1))
            own = torch.arange(len(ours), device=ours.device) + place_of_this_process() * len(ours)
            return F.cross_entropy(ours @ theirs.T / self.settings.temperature, own)
