"""A bundle's whole network, built from its manifest: backbone, GLoRI head, dense head."""

from typing import NamedTuple

from torch import Tensor, nn

from schemas.bundle import Manifest
from schemas.errors import BundleError
from workers.networks.dense import STRIDE, DenseHead
from workers.networks.glori import GLoRI
from workers.networks.hybrid_vit import LAST_BLOCKS, Features, create_backbone


class NetworkOutput(NamedTuple):
    """Raw outputs for B images of S x S pixels, K classes, C dense channels, N patches."""

    #: [B, K]
    logits: Tensor
    #: [B, heads, K, N], sums to 1 over N; patches row by row.
    attention: Tensor
    #: [B, C, S / 4, S / 4]
    dense: Tensor


class Network(nn.Module):
    """Backbone and heads; `forward` takes float32 [B, 1, S, S], normalised as the manifest says."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        self.backbone = create_backbone(manifest.architecture.timm_name, manifest.architecture.arguments)
        features = LAST_BLOCKS * self.backbone.width
        self.glori = GLoRI(features, len(manifest.glori.classes), **manifest.glori.arguments)
        self.dense = DenseHead(
            features, self.backbone.skip_channels, len(manifest.dense.channels), **manifest.dense.arguments
        )

    def forward(self, images: Tensor) -> NetworkOutput:
        return self.heads(self.backbone(images))

    def heads(self, features: Features) -> NetworkOutput:
        """What the heads make of a backbone's features."""
        logits, attention = self.glori(features.patches)
        return NetworkOutput(logits, attention, self.dense(features))


def build_network(manifest: Manifest) -> Network:
    """The network of a manifest with fresh weights, in training mode.

    Raises BundleError when the manifest asks for something that this version cannot build.
    """
    if manifest.dense.stride != STRIDE:
        raise BundleError(
            f"The dense head has stride {STRIDE}, the manifest of {manifest.name} says {manifest.dense.stride}."
        )
    try:
        return Network(manifest)
    except (RuntimeError, TypeError, ValueError) as error:
        raise BundleError(
            f"The manifest of {manifest.name} {manifest.version} describes no network: {error}"
        ) from error
