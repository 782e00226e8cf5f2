"""Masked autoencoder (He et al., arXiv 2111.06377), as CXRBase names it: the encoder sees a quarter of the patches, a
small decoder draws the others.

    kept, masked = random quarter, the rest             tokens = encoder(kept patches)
    drawn = decoder(tokens at their places, one mask token at each other place)
    loss = mean over masked patches of (drawn - patch, standardised by itself)^2
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from lightly.models.modules.masked_vision_transformer_decoder_timm import MaskedVisionTransformerDecoderTIMM
from lightly.models.utils import initialize_2d_sine_cosine_positional_embedding, patchify
from pydantic import Field
from torch import Tensor, nn

from schemas.bundle import Architecture
from training.pretraining.draws import Draws
from training.pretraining.encoder import create_vit, encode
from training.pretraining.method import Loss, Method, MethodSettings, spread
from training.pretraining.schedule import Moment
from training.pretraining.views import View
from workers.networks.vit import PATCH, ViT


class MaeSettings(MethodSettings):
    """By default the paper's (table 1, its default setting)."""

    kind: Literal["mae"]
    view: View
    masked_patches: Annotated[float, Field(gt=0, lt=1)] = 0.75
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    #: Each patch is standardised by its own mean and variance before it is a target.
    standardised: bool = True

    @property
    def views(self) -> tuple[View, ...]:
        return (self.view,)


class Mae(Method):
    """Encoder and decoder for images of `side` pixels; positions are sines and cosines and do not learn."""

    def __init__(self, settings: MaeSettings, architecture: Architecture, side: int) -> None:
        super().__init__()
        self.settings = settings
        self.encoder: ViT = create_vit(architecture, side)
        width = settings.decoder_width
        self.decoder_embed = nn.Linear(self.encoder.width, width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            (side // PATCH) ** 2, width, settings.decoder_depth, settings.decoder_heads
        )
        self.decoder_pred = nn.Linear(width, PATCH**2 * self.encoder.channels)
        initialize_2d_sine_cosine_positional_embedding(self.encoder.pos_embed, num_prefix_tokens=1)
        self.encoder.pos_embed.requires_grad_(False)
        nn.init.normal_(self.encoder.cls_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        embedding = self.encoder.patch_embed.proj
        # Drawn as the linear layer that it is.
        nn.init.xavier_uniform_(embedding.weight.data.flatten(1))

    @property
    def kept(self) -> ViT:
        return self.encoder

    def forward(self, views: Sequence[Tensor], draws: Draws, moment: Moment) -> Loss:
        (images,) = views
        patches = (images.shape[2] // PATCH) ** 2
        order = draws.uniform(patches).argsort(dim=1).to(images.device)
        count = int(patches * (1 - self.settings.masked_patches))
        seen = encode(self.encoder, images, kept=order[:, :count])
        drawn = self._decoded(seen.cls, seen.patches, order)
        with torch.autocast(images.device.type, enabled=False):
            target = _taken(self._target(images), order[:, count:])
            error = (_taken(drawn.float(), order[:, count:]) - target).square().mean()
        return Loss({"reconstruction": error}, {"feature_std": spread(seen.patches.mean(dim=1))})

    def _decoded(self, cls: Tensor, kept: Tensor, order: Tensor) -> Tensor:
        """All patches, as drawn: [B, N, 256 * channels]."""
        embedded = self.decoder_embed(torch.cat([cls[:, None], kept], dim=1))
        count = kept.shape[1]
        hidden = self.decoder.mask_token.to(embedded.dtype).expand(len(kept), order.shape[1] - count, -1)
        shuffled = torch.cat([embedded[:, 1:], hidden], dim=1)
        placed = _taken(shuffled, order.argsort(dim=1))
        decoded = self.decoder(torch.cat([embedded[:, :1], placed], dim=1))
        drawn: Tensor = self.decoder_pred(decoded[:, 1:])
        return drawn

    def _target(self, images: Tensor) -> Tensor:
        target: Tensor = patchify(images, PATCH)
        if self.settings.standardised:
            mean, variance = target.mean(dim=2, keepdim=True), target.var(dim=2, keepdim=True)
            target = (target - mean) / (variance + 1e-6).sqrt()
        return target


def _taken(tokens: Tensor, indices: Tensor) -> Tensor:
    """tokens [B, N, C] at indices [B, K]: [B, K, C]."""
    return tokens.gather(1, indices[:, :, None].expand(-1, -1, tokens.shape[2]))
