"""The smallest manifest with two looks; apart from tests/support/examples.py, which is to be imported without torch."""

from collections.abc import Sequence

from schemas.bundle import Architecture, Manifest, Population
from tests.support.examples import PREPROCESSING
from training.regeneration.look_manifest import look_manifest


def tiny_manifest(targets: Sequence[str]) -> Manifest:
    """Both looks, of the smallest widths."""
    return look_manifest(
        "tiny",
        "0",
        "Apache-2.0",
        Population(),
        targets,
        backbone=Architecture(timm_name="hybrid_vit_tiny_patch16", arguments={"img_size": 64, "width": 64, "depth": 4}),
        preprocessing=PREPROCESSING,
        glori={"width": 32, "heads": 4},
        dense={"width": 32},
        second_look={"widths": [8, 8, 8, 8, 8]},
    )
