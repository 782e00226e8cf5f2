"""The published systems: what a bundle made from their weights says of itself. Used by importing.py and card.py."""

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """One published foundation model."""

    #: As in `chexnode bundle import NAME`; also the preprocessing profile and the bundle's name by default.
    name: str
    title: str
    #: Paper and place of the weights.
    source: str
    #: Of the weights, with where it is stated; of one system it depends on the file.
    licence: str
    #: What is known of its limits; sentences for the card.
    limits: tuple[str, ...]
    #: Goes into the manifest: "" only where a publication with these very weights shows results on radiographs.
    unproven: str = ""


CHEXFOUND = System(
    name="chexfound",
    title="CheXFound (DINOv2 ViT-L/16 on about one million chest radiographs)",
    source="Yang et al., IEEE TMI 44(12):4787-4799, 2025 (arXiv 2502.05142); weights: github.com/RPIDIAL/CheXFound",
    licence="not stated by the source of the weights (Google Drive); the code is MIT",
    limits=(
        "The published 40-class head is the one of arXiv version 1; the figures of the journal paper belong to a later "
        "head of which no weights are public.",
        "Preprocessing as published crops the edges of films that are not square.",
        "Its training data are public research sets of adults; the exact list is not published.",
    ),
)
#: SHA-256 of model.safetensors at huggingface.co/DIAL-RPI/CheXFound, revision 41b966c, whose page states a licence.
_HUGGING_FACE_FILE = "852072c47ac300099363d0c756c15587373cd94320b74381657510ac301cb623"


def chexfound_licence(file: str, sha256: str) -> str:
    """Licence of CheXFound's weights by the file that they came in."""
    stated = "Apache-2.0, stated at huggingface.co/DIAL-RPI/CheXFound"
    if sha256 == _HUGGING_FACE_FILE:
        return stated
    if file.endswith(".safetensors"):
        return f"{stated}, if the file is from there (its digest is not that of revision 41b966c)"
    return CHEXFOUND.licence


CHESS = System(
    name="chess",
    title="CheSS (MoCo ResNet-50 on 4.8 million chest radiographs)",
    source="Cho et al., J Digit Imaging 2023, doi 10.1007/s10278-023-00782-4; weights: github.com/mi2rl/CheSS",
    licence="not stated for the weights; the code is Apache-2.0 with non-commercial parts (CC BY-NC 4.0)",
    limits=(
        "A backbone only: its 128 outputs belong to the pre-training and are no findings; it is left out.",
        "Three normalisations of its input are in use; this one is that of the pre-training.",
    ),
)

MAE = System(
    name="mae",
    title="Masked autoencoder (ViT)",
    source="method: He et al., arXiv 2111.06377; CXRBase (arXiv 2410.08861) publishes neither code nor weights",
    licence="not known: it is that of the file imported",
    limits=("Size and input of CXRBase are assumed, not published.",),
    unproven="No weights of this kind made from chest radiographs are public: nothing shows that these work.",
)

GMML = System(
    name="gmml",
    title="Group masked model learning (GMML / SiT, ViT)",
    source="method: Atito et al., arXiv 2205.14986 and 2104.03602; SS-CXR (arXiv 2211.12944) publishes no weights",
    licence="not known: it is that of the file imported",
    limits=("Settings of SS-CXR are not published.",),
    unproven="No weights of this kind made from chest radiographs are public: nothing shows that these work.",
)
