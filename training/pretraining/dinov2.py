"""DINOv2 (Oquab et al., arXiv 2304.07193), with which CheXFound is pre-trained: a student learns what its own moving
average says of other crops of the same image (DINO) and of patches that it does not see itself (iBOT).

    t = teacher(global crops)                           targets = sinkhorn(t / teacher temperature)
    s = student(global crops with masked patches), student(local crops)
    loss = mean over pairs of different crops  H(targets, softmax(s / student temperature))     class tokens
         + 3   * mean over images, masked patches  H(targets of patches, softmax(s / ...))
         + 0.1 * sum over global crops  -mean log distance to the nearest neighbour in the batch
    teacher <- m * teacher + (1 - m) * student
"""

import math
import warnings
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from lightly.loss.koleo_loss import KoLeoLoss
from lightly.models.modules.heads import DINOv2ProjectionHead
from pydantic import Field
from torch import Tensor, nn

from schemas.bundle import Architecture
from training.pretraining.block_masks import block_masks
from training.pretraining.draws import Draws
from training.pretraining.encoder import Tokens, create_vit, encode, set_drop_path
from training.pretraining.method import Loss, Method, MethodSettings, frozen_copy, spread
from training.pretraining.moving_average import move
from training.pretraining.parallel import summed_over_processes
from training.pretraining.schedule import Moment, Ramp
from training.pretraining.sinkhorn import sinkhorn
from training.pretraining.views import View
from workers.networks.vit import ViT


class Dinov2Settings(MethodSettings):
    """By default as CheXFound was trained (its ssl_default_config.yaml and vitl16_ibot333.yaml)."""

    kind: Literal["dinov2"]
    #: Two global views, one crop of each image for each, and the local ones.
    global_views: tuple[View, View]
    local_view: View
    prototypes: Annotated[int, Field(ge=2)] = 131072
    head_hidden: int = 2048
    head_bottleneck: int = 384
    patch_head_bottleneck: int = 256
    patch_weight: float = 3.0
    koleo_weight: float = 0.1
    student_temperature: float = 0.1
    teacher_temperature: Ramp = Ramp(start=0.04, end=0.07, shape="linear", over=75_000)
    teacher_momentum: Ramp = Ramp(start=0.994, end=1.0)
    sinkhorn_iterations: int = 3
    #: Share of the global crops that get masks, and between which shares of such a crop's patches.
    masked_crops: float = 0.5
    masked_patches: tuple[float, float] = (0.1, 0.5)
    drop_path: float = 0.4
    #: Steps in which the prototypes stand still.
    still_prototypes: int = 2500

    @property
    def views(self) -> tuple[View, ...]:
        return (*self.global_views, self.local_view)


class _Branch(nn.Module):
    """A student or a teacher."""

    def __init__(self, settings: Dinov2Settings, architecture: Architecture, side: int) -> None:
        super().__init__()
        self.backbone = create_vit(architecture, side)
        hidden, prototypes = settings.head_hidden, settings.prototypes
        width = self.backbone.width
        with warnings.catch_warnings():
            # torch has a newer weight norm; this one has the published tensors.
            warnings.simplefilter("ignore", FutureWarning)
            self.dino_head = DINOv2ProjectionHead(width, hidden, settings.head_bottleneck, prototypes)
            self.ibot_head = DINOv2ProjectionHead(width, hidden, settings.patch_head_bottleneck, prototypes)


class Dinov2(Method):
    """Student and teacher for images of `side` pixels."""

    def __init__(self, settings: Dinov2Settings, architecture: Architecture, side: int) -> None:
        super().__init__()
        self.settings = settings
        self.student = _Branch(settings, architecture, side)
        self.teacher = _Branch(settings, architecture, side)
        frozen_copy(self.teacher, self.student)
        # Of the student alone: the teacher says the same of an image whenever it is asked.
        set_drop_path(self.student.backbone, settings.drop_path, rising=False)
        self.koleo = KoLeoLoss()

    @property
    def kept(self) -> ViT:
        return self.teacher.backbone

    def forward(self, views: Sequence[Tensor], draws: Draws, moment: Moment) -> Loss:
        crops, local = torch.cat(list(views[:2])), torch.cat(list(views[2:]))
        masked = self._masks(crops, draws)
        cls_targets, patch_targets = self._targets(crops, masked, moment)

        seen = encode(self.student.backbone, crops, masked=masked)
        seen_closer = encode(self.student.backbone, local)
        cls = self._log_shares(self.student.dino_head, torch.cat([seen.cls, seen_closer.cls]))
        patches = self._log_shares(self.student.ibot_head, seen.patches[masked])
        with torch.autocast(crops.device.type, enabled=False):
            # The first two rows of targets and of the student's are the same crops.
            pairs = -torch.einsum("tbk,sbk->ts", cls_targets, cls.reshape(-1, len(views[0]), cls.shape[1])) / len(
                views[0]
            )
            other = ~torch.eye(2, len(pairs[0]), dtype=torch.bool, device=pairs.device)
            of_patches = -(patch_targets * patches).sum(dim=1) * _per_image(masked)
            koleo = sum(self.koleo(part) for part in seen.cls.float().chunk(2))
        return Loss(
            {
                "dino": pairs[other].mean(),
                "ibot": self.settings.patch_weight * of_patches.sum() / len(crops),
                "koleo": self.settings.koleo_weight * koleo,
            },
            {
                "teacher_entropy": _entropy(cls_targets.flatten(0, 1)) / math.log(self.settings.prototypes),
                "feature_std": spread(seen.cls[: len(views[0])]),
            },
        )

    def after_step(self, moment: Moment) -> None:
        move(self.teacher, self.student, self.settings.teacher_momentum.at(moment))

    def standing_still(self, moment: Moment) -> list[nn.Parameter]:
        if moment.step >= self.settings.still_prototypes:
            return []
        return [*self.student.dino_head.last_layer.parameters(), *self.student.ibot_head.last_layer.parameters()]

    def clipped_apart(self) -> list[nn.Module]:
        return [self.student.backbone, self.student.dino_head, self.student.ibot_head]

    @torch.no_grad()
    def _targets(self, crops: Tensor, masked: Tensor, moment: Moment) -> tuple[Tensor, Tensor]:
        """Of class tokens [2, B, K] and of the masked patches [masked, K]; K prototypes."""
        temperature, iterations = self.settings.teacher_temperature.at(moment), self.settings.sinkhorn_iterations
        said: Tokens = encode(self.teacher.backbone, crops)
        cls = sinkhorn(self.teacher.dino_head(said.cls), temperature, iterations)
        patches = sinkhorn(self.teacher.ibot_head(said.patches[masked]), temperature, iterations)
        return cls.reshape(2, len(crops) // 2, -1), patches

    def _log_shares(self, head: nn.Module, tokens: Tensor) -> Tensor:
        return F.log_softmax(head(tokens).float() / self.settings.student_temperature, dim=1)

    def _masks(self, crops: Tensor, draws: Draws) -> Tensor:
        """Which patches of which global crop are masked: bool [2 B, N]."""
        side = crops.shape[2] // 16
        of_images = block_masks(draws, side, 2, self.settings.masked_crops, self.settings.masked_patches)
        return of_images.transpose(0, 1).flatten(0, 1).flatten(1).to(crops.device)


def _per_image(masked: Tensor) -> Tensor:
    """For each masked patch 1 / the number of them in its crop."""
    shares: Tensor = (1 / masked.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(masked)[masked]
    return shares


def _entropy(shares: Tensor) -> Tensor:
    """Of the mean over the batch of all processes: log K when every prototype is used alike, 0 when one is."""
    mean = summed_over_processes(shares.sum(dim=0))
    mean = mean / mean.sum()
    return -(mean * mean.clamp(min=1e-12).log()).sum()
