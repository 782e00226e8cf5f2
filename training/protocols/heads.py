"""The heads that are trained on frozen features, by the kind that a bundle names them by.

Called by compare.py, and by whoever trains such a head on cached features.
"""

from collections.abc import Callable
from typing import Literal

from torch import nn

from workers.networks.features import LAST_BLOCKS, Backbone
from workers.networks.glori import GLoRI
from workers.networks.glori_pyramid import PyramidGLoRI
from workers.networks.linear import LinearProbe

#: As in `schemas.bundle`.
HeadKind = Literal["linear", "glori", "glori_pyramid"]
#: `GLoRI` is 256 wide unless told otherwise; the pyramid's width is the next that three levels and eight heads divide.
_PYRAMID_WIDTH, _PYRAMID_HIDDEN = 264, 512


def fresh_head(kind: HeadKind, backbone: Backbone, targets: int) -> Callable[[], nn.Module]:
    """Makes a head with fresh weights at each call; it gives (logits [B, targets], ...) for the backbone's Features.

    Both GLoRI heads read all blocks that the backbone gives and are about as wide: they differ in how they look, not in
    their size.
    """
    joined = backbone.width * backbone.blocks_given
    if kind == "linear":
        blocks = min(LAST_BLOCKS, backbone.blocks_given)
        return lambda: LinearProbe(backbone.width, targets, blocks=blocks, mean_patch=True)
    if kind == "glori":
        return lambda: GLoRI(joined, targets, cat_cls=True)
    return lambda: PyramidGLoRI(joined, targets, width=_PYRAMID_WIDTH, hidden=_PYRAMID_HIDDEN)
