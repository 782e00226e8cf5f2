"""What a weight file seems to be, by the names in it, for who gave it in another's place. Called by import_run.py."""

import re
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import BundleMakingError
from workers.checkpoints.reading import entry_names

#: The kind of a file that `--head` takes; those that `--backbone` takes are named after their systems.
GLORI_HEAD = "glori head"


@dataclass(frozen=True)
class _Kind:
    name: str
    #: A name that only files of this kind have: a regular expression of its beginning.
    mark: str
    said: str


_KINDS = (
    _Kind(
        GLORI_HEAD,
        r"(model\.)?(module\.)?(classifiers_dict\.[^.]+\.)?decoder\.(query_embed|duplicate_pooling|embed_standart)",
        "a GLoRI head: give it as --head of chexnode bundle import chexfound",
    ),
    _Kind(
        "chexfound",
        r"((teacher|student|model|module|backbone)\.)*register_tokens$",
        "CheXFound's backbone: give it as --backbone of chexnode bundle import chexfound",
    ),
    _Kind(
        "gmml",
        r"SiT_model\.",
        "GMML's: give it as --backbone of chexnode bundle import gmml",
    ),
    _Kind(
        "mae",
        r"(model\.)?(module\.)?decoder_(pos_embed|blocks)",
        "a masked autoencoder's: give it as --backbone of chexnode bundle import mae",
    ),
    _Kind(
        "chess",
        r"(state_dict\.)?(module\.)?(encoder_q\.)?layer1\.0\.conv1\.weight",
        "a ResNet's, as CheSS is: give it as --backbone of chexnode bundle import chess",
    ),
)


def mistaken_for(path: Path, wanted: str) -> str:
    """What the file looks like, when that is not `wanted` (GLORI_HEAD or a system's name); "" when nobody can say."""
    try:
        names = entry_names(path)
    except BundleMakingError:
        return ""
    found = [kind for kind in _KINDS if any(re.match(kind.mark, name) for name in names)]
    if not found or any(kind.name == wanted for kind in found):
        return ""
    return f"{path.name} looks like {found[0].said}."
