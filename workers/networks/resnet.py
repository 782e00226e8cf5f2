"""ResNets as backbones, with a stem for one grey channel as CheSS has it (Cho et al., 2023), and a small relative.

Registered with timm as `chexnode_resnet50` and `chexnode_resnet18`; tensor names are torchvision's without `fc`. Made
by create_backbone.
"""

from typing import Any

from timm.models import register_model
from timm.models import resnet as timm_resnet
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor

from workers.networks.features import Backbone, Features, refuse_pretrained


class ResNet(Backbone):
    """Patches are the last stage's cells at stride 32, the class token is their mean.

    Parameters
    ----------
    block, blocks
        What the four stages are made of, and of how many: bottlenecks end in 2048 channels, basic blocks in 512.
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], blocks: tuple[int, ...], in_chans: int) -> None:
        super().__init__()
        if in_chans < 1:
            raise ValueError(f"{in_chans} channels make no ResNet")
        self.channels, self.blocks_given, self.skip_channels = in_chans, 1, ()
        network = timm_resnet.ResNet(block, blocks, in_chans=in_chans, num_classes=0)  # type: ignore[arg-type]
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
def chexnode_resnet50(pretrained: bool = False, *, in_chans: int = 1, **timm_arguments: Any) -> ResNet:
    """23,501,760 parameters for one channel, 2048 wide.

    Raises ValueError for `pretrained` (weights come from a bundle) and for an argument it does not know.
    """
    refuse_pretrained("chexnode_resnet50", pretrained, timm_arguments)
    return ResNet(Bottleneck, (3, 4, 6, 3), in_chans)


@register_model
def chexnode_resnet18(pretrained: bool = False, *, in_chans: int = 1, **timm_arguments: Any) -> ResNet:
    """11,170,240 parameters for one channel, 512 wide: for the small twin of CheSS's recipe. Raises as its sister."""
    refuse_pretrained("chexnode_resnet18", pretrained, timm_arguments)
    return ResNet(BasicBlock, (2, 2, 2, 2), in_chans)
