"""A manifest so small that a network with random weights computes an image in milliseconds."""

from datetime import date

from schemas.bundle import Architecture, DenseHead, GloriHead, Manifest, Population, ScoredClass
from schemas.codes import Finding, Landmark, Segment
from schemas.preprocessing import Preprocessing
from workers.networks.dense import STRIDE

CLASSES = (
    Finding.PLEURAL_EFFUSION,
    Finding.PNEUMOTHORAX,
    Finding.CONSOLIDATION,
    Finding.CARDIOMEGALY,
    Finding.NODULE,
    "endotracheal_tube.presence",
    "endotracheal_tube.malposition",
)
CHANNELS = (
    Segment.RIGHT_LUNG,
    Segment.LEFT_LUNG,
    Segment.HEART,
    Segment.ENDOTRACHEAL_TUBE,
    Landmark.ENDOTRACHEAL_TUBE_TIP,
    Landmark.CARINA,
)


def tiny_manifest() -> Manifest:
    """64 x 64 pixels, findings and an endotracheal tube; no second look."""
    return Manifest(
        name="tiny",
        version="0.0.1",
        created=date(2026, 1, 1),
        architecture=Architecture(
            timm_name="hybrid_vit_tiny_patch16", arguments={"img_size": 64, "width": 64, "depth": 4}
        ),
        preprocessing=Preprocessing(profile="letterbox", size=64, mean=(0.5,), std=(0.25,)),
        heads=[
            GloriHead(
                file="heads/glori.safetensors",
                arguments={"width": 32, "heads": 4},
                classes=[ScoredClass(target=target, operating_point=0.5) for target in CLASSES],
            ),
            DenseHead(file="heads/dense.safetensors", arguments={"width": 32}, stride=STRIDE, channels=list(CHANNELS)),
        ],
        population=Population(minimum_age_years=18),
        training={},
        licence="Apache-2.0",
    )
