"""A bundle's whole network, built from its manifest: backbone, head that classifies, dense head, second look."""

from typing import NamedTuple

from torch import Tensor, nn

# Each registers its backbone with timm.
import workers.networks.hybrid_vit
import workers.networks.resnet
import workers.networks.vit
from schemas.bundle import DenseHead as DenseHeadManifest
from schemas.bundle import GloriHead, LinearHead, Manifest, PyramidGloriHead, SecondLookHead
from schemas.errors import BundleError
from workers.networks.dense import STRIDE, DenseHead
from workers.networks.features import Backbone, Features, create_backbone
from workers.networks.glori import GLoRI
from workers.networks.glori_pyramid import PyramidGLoRI
from workers.networks.linear import LinearProbe
from workers.networks.second_look import MULTIPLE, SecondLook
from workers.networks.second_look import STRIDE as SECOND_LOOK_STRIDE

assert workers.networks.hybrid_vit and workers.networks.resnet and workers.networks.vit


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
        #: Gives (logits [B, K], attention [B, heads, K, N]) for Features; `with_classes` makes it one for others.
        self.classifier = _classifier(manifest, self.backbone)
        self.dense = _dense(manifest.dense, self.backbone)
        #: Takes crops and gives logits of its own; no part of `forward`, whose outputs say where to cut.
        self.second_look = _second_look(manifest.second_look, manifest.preprocessing.channels)

    def forward(self, images: Tensor) -> NetworkOutput:
        return self.heads(self.backbone(images))

    def heads(self, features: Features) -> NetworkOutput:
        """What the heads make of a backbone's features."""
        patches = features.patches[-1]
        # shape[0], not len(): a traced network then takes any number of images.
        images = patches.shape[0]
        logits, attention = patches.new_zeros(images, 0), patches.new_zeros(images, 1, 0, patches.shape[1])
        if self.classifier is not None:
            logits, attention = self.classifier(features)
        dense = patches.new_zeros(images, 0, 1, 1) if self.dense is None else self.dense(features)
        return NetworkOutput(logits, attention, dense)


def build_network(manifest: Manifest) -> Network:
    """The network of a manifest with fresh weights, in training mode.

    Raises BundleError when the manifest asks for something that this version cannot build.
    """
    if manifest.dense is not None and manifest.dense.stride != STRIDE:
        raise BundleError(
            f"The dense head has stride {STRIDE}, the manifest of {manifest.name} says {manifest.dense.stride}."
        )
    if manifest.second_look is not None:
        _check_second_look(manifest.second_look, manifest.name)
    try:
        return Network(manifest)
    except (RuntimeError, TypeError, ValueError) as error:
        raise BundleError(
            f"The manifest of {manifest.name} {manifest.version} describes no network: {error}"
        ) from error


def _classifier(manifest: Manifest, backbone: Backbone) -> GLoRI | PyramidGLoRI | LinearProbe | None:
    features = backbone.blocks_given * backbone.width
    match manifest.classifier:
        case None:
            return None
        case GloriHead() as head:
            return GLoRI(features, len(head.classes), **head.arguments)
        case PyramidGloriHead() as head:
            return PyramidGLoRI(features, len(head.classes), **head.arguments)
        case LinearHead() as head:
            probe = LinearProbe(backbone.width, len(head.classes), **head.arguments)
            if probe.blocks > backbone.blocks_given:
                raise ValueError(f"a probe on {probe.blocks} blocks of a backbone that gives {backbone.blocks_given}")
            return probe


def _dense(head: DenseHeadManifest | None, backbone: Backbone) -> DenseHead | None:
    if head is None:
        return None
    if not backbone.skip_channels:
        raise ValueError("a dense head needs a backbone with a convolutional stem")
    features = backbone.blocks_given * backbone.width
    return DenseHead(features, backbone.skip_channels, len(head.channels), **head.arguments)


def _second_look(head: SecondLookHead | None, inputs: int) -> SecondLook | None:
    return None if head is None else SecondLook(inputs, len(head.channels), **head.arguments)


def _check_second_look(head: SecondLookHead, bundle: str) -> None:
    if head.stride != SECOND_LOOK_STRIDE or head.crop % MULTIPLE or head.crop > head.detail_size:
        raise BundleError(
            f"The second look has stride {SECOND_LOOK_STRIDE} and takes crops whose side is a multiple of {MULTIPLE} "
            f"and not above detail_size; the manifest of {bundle} says stride {head.stride}, crop {head.crop} of "
            f"{head.detail_size}."
        )
