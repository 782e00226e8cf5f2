"""The manifest that training begins with: the classes that the data teach, the dense channels, the second look.

Called by the stage that trains; calibration, evaluation and the making of the bundle fill in the rest.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.bundle import Architecture, DenseHead, GloriHead, Manifest, Population, ScoredClass, SecondLookHead
from schemas.preprocessing import Intensity, Preprocessing
from training.examples.store import ABOVE_CARINA, CROP
from training.examples.targets import CHANNELS, CLOSER_CHANNELS
from workers.networks.dense import STRIDE
from workers.networks.second_look import STRIDE as CLOSER_STRIDE

#: The project's own way of placing images, with greys that VOI windows change little.
LOOK_PREPROCESSING = Preprocessing(profile="letterbox", size=384, intensity=Intensity.STRETCH, mean=(0.5,), std=(0.25,))
#: Side of the square that the second look's crop is cut from: of a film of 400 mm the crop is 150 mm.
DETAIL_SIZE = 1024


def look_manifest(
    name: str,
    version: str,
    licence: str,
    population: Population,
    targets: Sequence[str],
    *,
    backbone: Architecture,
    preprocessing: Preprocessing = LOOK_PREPROCESSING,
    glori: Mapping[str, Any] | None = None,
    dense: Mapping[str, Any] | None = None,
    second_look: Mapping[str, Any] | None = None,
    detail_size: int = DETAIL_SIZE,
) -> Manifest:
    """Everything that is known before training, with operating points of 0.5 for the want of better ones.

    Parameters
    ----------
    targets : the classes, see `training.examples.mixture.Mixture.taught`
    glori, dense, second_look : arguments of the heads, see workers/networks
    """
    return Manifest(
        name=name,
        version=version,
        created=datetime.now(UTC).date(),
        architecture=backbone,
        preprocessing=preprocessing,
        heads=[
            GloriHead(
                file="heads/glori.safetensors",
                arguments=dict(glori or {}),
                classes=[ScoredClass(target=target, operating_point=0.5) for target in targets],
            ),
            DenseHead(
                file="heads/dense.safetensors", arguments=dict(dense or {}), stride=STRIDE, channels=list(CHANNELS)
            ),
            SecondLookHead(
                file="heads/second_look.safetensors",
                arguments=dict(second_look or {}),
                detail_size=detail_size,
                crop=CROP,
                above_carina=ABOVE_CARINA,
                stride=CLOSER_STRIDE,
                channels=list(CLOSER_CHANNELS),
            ),
        ],
        population=population,
        training={},
        licence=licence,
    )
