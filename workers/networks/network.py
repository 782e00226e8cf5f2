"""A bundle's whole network, built from its manifest: backbone, head that classifies, dense head."""

from typing import NamedTuple

from torch import Tensor, nn

import workers.networks.hybrid_vit  # registers its backbone with timm
from schemas.bundle import DenseHead as DenseHeadManifest
from schemas.bundle import GloriHead, Manifest
from schemas.errors import BundleError
from workers.networks.dense import STRIDE, DenseHead
from workers.networks.features import Backbone, Features, create_backbone
from workers.networks.glori import GLoRI

assert workers.networks.hybrid_vit


class NetworkOutput(NamedTuple):
    """Raw outputs for B images of H x W pixels, K classes, C dense channels, N patches."""

    #: [B, K]; K = 0 without a head that classifies.
    logits: Tensor
    #: [B, heads, K, N], sums to 1 over N; patches row by row. K = 0 where the head looks nowhere.
    attention: Tensor
    #: [B, C, H / 4, W / 4]; C = 0 without a dense head.
    dense: Tensor


class Network(nn.Module):
    """Backbone and heads; `forward` takes float32 [B, channels, H, W], normalised as the manifest says."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        self.backbone: Backbone = create_backbone(manifest.architecture.timm_name, manifest.architecture.arguments)
        if self.backbone.channels != manifest.preprocessing.channels:
            raise ValueError(
                f"the backbone takes {self.backbone.channels} channels, preprocessing gives "
                f"{manifest.preprocessing.channels}"
            )
        #: Gives (logits [B, K], attention [B, heads, K, N]) for Features.
        self.classifier = _classifier(manifest, self.backbone)
        self.dense = _dense(manifest.dense, self.backbone)

    def forward(self, images: Tensor) -> NetworkOutput:
        return self.heads(self.backbone(images))

    def heads(self, features: Features) -> NetworkOutput:
        """What the heads make of a backbone's features."""
        patches = features.patches[-1]
        logits, attention = patches.new_zeros(len(patches), 0), patches.new_zeros(len(patches), 1, 0, patches.shape[1])
        if self.classifier is not None:
            logits, attention = self.classifier(features)
        dense = patches.new_zeros(len(patches), 0, 1, 1) if self.dense is None else self.dense(features)
        return NetworkOutput(logits, attention, dense)


def build_network(manifest: Manifest) -> Network:
    """The network of a manifest with fresh weights, in training mode.

    Raises BundleError when the manifest asks for something that this version cannot build.
    """
    if manifest.dense is not None and manifest.dense.stride != STRIDE:
        raise BundleError(
            f"The dense head has stride {STRIDE}, the manifest of {manifest.name} says {manifest.dense.stride}."
        )
    try:
        return Network(manifest)
    except (RuntimeError, TypeError, ValueError) as error:
        raise BundleError(
            f"The manifest of {manifest.name} {manifest.version} describes no network: {error}"
        ) from error


def _classifier(manifest: Manifest, backbone: Backbone) -> nn.Module | None:
    head = manifest.classifier
    if head is None:
        return None
    features = backbone.blocks_given * backbone.width
    if isinstance(head, GloriHead):
        return GLoRI(features, len(head.classes), **head.arguments)
    raise ValueError(f"no head of the kind {head.kind}")


def _dense(head: DenseHeadManifest | None, backbone: Backbone) -> DenseHead | None:
    if head is None:
        return None
    if not backbone.skip_channels:
        raise ValueError("a dense head needs a backbone with a convolutional stem")
    features = backbone.blocks_given * backbone.width
    return DenseHead(features, backbone.skip_channels, len(head.channels), **head.arguments)
