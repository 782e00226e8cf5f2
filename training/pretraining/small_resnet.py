"""ResNet-18 for one grey channel, for the small twin of CheSS's recipe. Registered with timm as `chexnode_resnet18`."""

from typing import Any

from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor

from workers.networks.features import Backbone, Features, refuse_pretrained


class ResNet18(Backbone):
    """As workers.networks.resnet.ResNet50, with basic blocks: 512 channels; tensor names are torchvision's."""

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.channels, self.blocks_given, self.skip_channels = in_chans, 1, ()
        network = ResNet(BasicBlock, (2, 2, 2, 2), in_chans=in_chans, num_classes=0)  # type: ignore[arg-type]
        self.width = network.num_features
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
def chexnode_resnet18(pretrained: bool = False, *, in_chans: int = 1, **timm_arguments: Any) -> ResNet18:
    """11,170,240 parameters for one channel. Raises ValueError for `pretrained` and for an unknown argument."""
    refuse_pretrained("chexnode_resnet18", pretrained, timm_arguments)
    return ResNet18(in_chans)
