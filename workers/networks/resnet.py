"""ResNet-50 as a backbone, with a stem for one grey channel as CheSS has it (Cho et al., 2023).

Registered with timm as `chexnode_resnet50`; tensor names are torchvision's without `fc`. Made by create_backbone.
"""

from typing import Any

from timm.models import register_model
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor

from workers.networks.features import Backbone, Features, refuse_pretrained

#: Per stage.
_BLOCKS = (3, 4, 6, 3)


class ResNet50(Backbone):
    """Patches are the last stage's cells at stride 32, the class token is their mean: 2048 channels."""

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.channels, self.blocks_given, self.skip_channels = in_chans, 1, ()
        network = ResNet(Bottleneck, _BLOCKS, in_chans=in_chans, num_classes=0)  # type: ignore[arg-type]
        self.width = network.num_features
        # The stages directly below this module, so that their tensors have torchvision's names.
        for name in ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            self.add_module(name, getattr(network, name))

    def forward(self, images: Tensor) -> Features:
        """`images` float32 [B, in_chans, H, W], normalised."""
        feature = images
        for stage in self.children():
            feature = stage(feature)
        patches = feature.flatten(2).transpose(1, 2)
        rows, columns = (int(side) for side in feature.shape[2:])
        return Features([patches], [patches.mean(dim=1)], (rows, columns), [])


@register_model
def chexnode_resnet50(pretrained: bool = False, *, in_chans: int = 1, **timm_arguments: Any) -> ResNet50:
    """23,501,760 parameters for one channel.

    Raises ValueError for `pretrained` (weights come from a bundle) and for an argument it does not know.
    """
    refuse_pretrained("chexnode_resnet50", pretrained, timm_arguments)
    if in_chans < 1:
        raise ValueError(f"{in_chans} channels make no ResNet")
    return ResNet50(in_chans)
