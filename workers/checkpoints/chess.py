"""CheSS's published files (Cho et al., J Digit Imaging 2023): MoCo's whole state, or one encoder alone.

Called by import_command.py. Layouts: {"state_dict": module.encoder_q.*, ...} and bare names (torchxrayvision's
mirror); `fc` is one layer (MoCo v1) or two (v2), and is left out: its 128 outputs are no findings.
"""

import re
from pathlib import Path

from schemas.bundle import Architecture
from workers.checkpoints.reading import ReadProgress, read_checkpoint
from workers.checkpoints.weights import BackboneWeights, Omission, finish_backbone, sort_out, tensor_shape

_BATCH_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_TENSOR = re.compile(
    rf"conv1\.weight|bn1\.{_BATCH_NORM}"
    rf"|layer[1-4]\.\d+\.(conv[123]\.weight|bn[123]\.{_BATCH_NORM}|downsample\.(0\.weight|1\.{_BATCH_NORM}))"
)
_OMISSIONS = (
    Omission(r"(module\.)?encoder_k\..+", "the key encoder, a moving average of what is used"),
    Omission(r"(module\.)?queue(_ptr)?", "queue of the contrastive pre-training"),
    Omission(r"(module\.)?(encoder_q\.)?fc\.([02]\.)?(weight|bias)", "projection of the contrastive pre-training"),
)


def read_backbone(path: Path, progress: ReadProgress) -> BackboneWeights:
    """ResNet-50 of either layout.

    Raises BundleMakingError that lists tensors missing, unknown, misshapen or not finite.
    """
    checkpoint = read_checkpoint(path, ("state_dict",), ("epoch", "arch", "optimizer"), progress)
    kept, left_out = sort_out(checkpoint, _canonical, _OMISSIONS)
    channels = tensor_shape(kept, "conv1.weight", 4, path.name)[1]
    architecture = Architecture(timm_name="chexnode_resnet50", arguments={"in_chans": channels})
    return finish_backbone(architecture, kept, checkpoint, left_out)


def _canonical(name: str) -> str | None:
    bare = re.sub(r"^(module\.)?(encoder_q\.)?", "", name)
    return bare if _TENSOR.fullmatch(bare) else None
