"""What a backbone hands to the heads, and what every backbone is."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, cast

from timm.models import is_model, model_entrypoint
from torch import Tensor, nn

#: Tokens of this many last blocks go to the heads (GLoRI, arXiv 2502.05142, reads four).
LAST_BLOCKS = 4


class Features(NamedTuple):
    """A backbone's features of B images; N = rows * columns patches."""

    #: Patch tokens of the last blocks through the final norm, the last block last: each [B, N, width], row by row.
    patches: list[Tensor]
    #: Class tokens of the same blocks: each [B, width]. Where there is none, the mean over the patches.
    cls: list[Tensor]
    #: Rows and columns of patches.
    grid: tuple[int, int]
    #: Stages of a convolutional stem at stride 2, 4, 8, 16: [B, channels, H / stride, W / stride]; empty without one.
    skips: list[Tensor]


class Backbone(nn.Module, ABC):
    """Takes normalised images float32 [B, channels, H, W] and gives `Features`; registered with timm by its name."""

    #: Channels of the images.
    channels: int
    #: Channels of a token.
    width: int
    #: How many blocks' tokens it gives.
    blocks_given: int
    #: Channels of `Features.skips`.
    skip_channels: tuple[int, ...]

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """The features of the images."""


def create_backbone(timm_name: str, arguments: dict[str, Any]) -> Backbone:
    """The manifest's backbone with fresh weights.

    Not by timm.create_model: there a manifest could name a model of the Hugging Face Hub, which is fetched, or a file
    to load. Raises ValueError for a network that is not this package's.
    """
    constructor = model_entrypoint(timm_name) if is_model(timm_name) else None
    if constructor is None or constructor.__module__.split(".")[0] == "timm":
        raise ValueError(f"{timm_name} is no backbone of this software")
    return cast(Backbone, constructor(pretrained=False, **arguments))


def refuse_pretrained(name: str, pretrained: bool, timm_arguments: dict[str, Any]) -> None:
    """For a registered constructor: drop what timm.create_model adds to every call and refuse all else.

    Raises ValueError for `pretrained` (weights come from a bundle) and for an argument that nobody knows.
    """
    for argument in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        timm_arguments.pop(argument, None)
    if pretrained or timm_arguments:
        raise ValueError(f"{name} takes no pretrained weights and no {sorted(timm_arguments)}.")
