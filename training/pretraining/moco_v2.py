"""MoCo (He et al., arXiv 1911.05722; v2: Chen et al., arXiv 2003.04297), with which CheSS is pre-trained: two views of
an image are each other's, among the many that a queue remembers.

    q = encoder(view 1)             k = moving average of the encoder(view 2, shuffled among batch norm groups)
    loss = cross entropy of (q . k, q . queue) / temperature, k to be found
    queue <- k in, the oldest out            key encoder <- m * key encoder + (1 - m) * encoder
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from lightly.loss.ntx_ent_loss import NTXentLoss
from lightly.models.modules.heads import MoCoProjectionHead
from lightly.models.utils import batch_shuffle_distributed, batch_unshuffle_distributed
from pydantic import Field
from torch import Tensor, distributed, nn

from schemas.bundle import Architecture
from training.pretraining.batch_norm_groups import with_groups
from training.pretraining.draws import Draws
from training.pretraining.encoder import create_encoder
from training.pretraining.method import Loss, Method, MethodSettings, frozen_copy, spread
from training.pretraining.moving_average import move
from training.pretraining.schedule import Moment
from training.pretraining.views import View
from workers.networks.features import Backbone


class MocoSettings(MethodSettings):
    """By default as CheSS's training script has it."""

    kind: Literal["moco_v2"]
    #: Of which each image gives two.
    view: View
    #: v2 has an MLP. CheSS's released weights are as large as one linear layer makes them (v1).
    mlp_head: bool = True
    head_width: int = 128
    #: A multiple of the global batch.
    queue: Annotated[int, Field(ge=2)] = 65536
    temperature: float = 0.2
    momentum: float = 0.999
    #: Parts of a process's batch that batch norm looks at apart. Without several, here or as processes, it tells the
    #: network which image is its own.
    batch_norm_groups: Annotated[int, Field(ge=1)] = 1

    @property
    def views(self) -> tuple[View, ...]:
        return (self.view,)


class _Encoder(nn.Module):
    def __init__(self, settings: MocoSettings, architecture: Architecture, side: int) -> None:
        super().__init__()
        self.backbone: Backbone = with_groups(create_encoder(architecture, side), settings.batch_norm_groups)
        width = self.backbone.width
        self.fc: nn.Module = nn.Linear(width, settings.head_width)
        if settings.mlp_head:
            self.fc = MoCoProjectionHead(width, width, settings.head_width).layers

    def forward(self, images: Tensor) -> Tensor:
        """[B, head_width]"""
        projected: Tensor = self.fc(self.backbone(images).cls[-1])
        return projected


class MocoV2(Method):
    """Both encoders and the queue."""

    def __init__(self, settings: MocoSettings, architecture: Architecture, side: int) -> None:
        super().__init__()
        self.settings = settings
        self.encoder_q = _Encoder(settings, architecture, side)
        self.encoder_k = _Encoder(settings, architecture, side)
        frozen_copy(self.encoder_k, self.encoder_q)
        together = distributed.is_initialized()
        self.contrast = NTXentLoss(settings.temperature, (settings.queue, settings.head_width), together)
        bank = self.contrast.memory_bank
        # lightly leaves the queue out of the state; a training that goes on needs it.
        bank.register_buffer("bank", bank.bank, persistent=True)
        bank.register_buffer("bank_ptr", bank.bank_ptr, persistent=True)

    @property
    def kept(self) -> Backbone:
        return self.encoder_q.backbone

    def forward(self, views: Sequence[Tensor], draws: Draws, moment: Moment) -> Loss:
        first, second = views
        query = self.encoder_q(first)
        key = self._key(second, draws)
        with torch.autocast(first.device.type, enabled=False):
            loss = self.contrast(query.float(), key.float())
        return Loss({"contrast": loss}, {"feature_std": spread(query)})

    @torch.no_grad()
    def _key(self, images: Tensor, draws: Draws) -> Tensor:
        """Of images that batch norm sees among others than their queries were seen among."""
        if distributed.is_initialized():
            shuffled, back = batch_shuffle_distributed(images)
            unshuffled: Tensor = batch_unshuffle_distributed(self.encoder_k(shuffled), back)
            return unshuffled
        order = draws.uniform().argsort().to(images.device)
        key: Tensor = self.encoder_k(images[order])
        return key[order.argsort()]

    def after_step(self, moment: Moment) -> None:
        move(self.encoder_k, self.encoder_q, self.settings.momentum)
