"""Files of group masked model learning: GMML (Atito et al., arXiv 2205.14986) and SiT (arXiv 2104.03602).

Called by import_command.py. Layouts: {"SiT_model": module.backbone.*, module.head_recons.*} (GMML), {"student": ...,
"teacher": ...} with the same names (SiT; the teacher is taken), and bare names.
"""

import re
from pathlib import Path

from workers.checkpoints.reading import ReadProgress, read_checkpoint
from workers.checkpoints.vit_shapes import VIT_TENSOR, vit_architecture
from workers.checkpoints.weights import BackboneWeights, Omission, finish_backbone, sort_out

_OMISSIONS = (
    Omission(r"(module\.)?head_recons\.(mlp\.\d+|convTrans)\.(weight|bias)", "decoder of the pre-training"),
    Omission(r"(module\.)?head\..+", "contrastive head of the pre-training"),
)
_BESIDE = ("optimizer", "epoch", "args", "fp16_scaler")

#: GMML's reconstruction reads the mean of these of twelve blocks (6, 8, 10 and 12 of its code), so heads get them too.
_GMML_BLOCKS = [5, 7, 9, 11]


def read_backbone(path: Path, heads: int | None, progress: ReadProgress) -> BackboneWeights:
    """The encoder of any of the layouts; `heads` are its attention heads where shapes do not tell.

    Raises BundleMakingError that lists tensors missing, unknown, misshapen or not finite.
    """
    checkpoint = read_checkpoint(path, ("SiT_model", "teacher", "student", "model"), _BESIDE, progress)
    kept, left_out = sort_out(checkpoint, _canonical, _OMISSIONS)
    is_gmml = checkpoint.section == "SiT_model" and any(name.startswith("blocks.11.") for name in kept)
    architecture = vit_architecture(kept, path.name, heads=heads, out_indices=_GMML_BLOCKS if is_gmml else None)
    return finish_backbone(architecture, kept, checkpoint, left_out)


def _canonical(name: str) -> str | None:
    bare = re.sub(r"^(module\.)?(backbone\.)?", "", name)
    return bare if bare != "mask_token" and VIT_TENSOR.fullmatch(bare) else None
