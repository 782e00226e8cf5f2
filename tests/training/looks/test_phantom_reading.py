"""A network that knows the answer reads a real phantom: whatever error is found would be the reading's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import Tensor, nn

from schemas.bundle import Architecture, Manifest, Population
from schemas.codes import Device, Landmark, Segment
from training.evaluation.reading import read_phantoms
from training.examples.phantoms import FILM_SIDE
from training.examples.placing import BITS, truth_of, write_example
from training.examples.store import Examples, create_examples
from training.examples.targets import CHANNELS, COURSES, LANDMARKS, REGIONS
from training.learning.augment import course_maps, heat_maps
from training.phantom.render import render_phantom
from training.phantom.truth import DeviceKind, Family, Phantom
from training.regeneration.look_manifest import LOOK_PREPROCESSING, look_manifest
from training.rendering import film_size
from workers.networks.dense import STRIDE
from workers.networks.network import NetworkOutput

_SURE = 8.0
_TARGETS = ["endotracheal_tube.presence", "endotracheal_tube.malposition"]
_SIZE = LOOK_PREPROCESSING.size


def _manifest() -> Manifest:
    manifest = look_manifest(
        "oracle",
        "0",
        "Apache-2.0",
        Population(),
        _TARGETS,
        backbone=Architecture(timm_name="hybrid_vit_tiny_patch16", arguments={"img_size": _SIZE}),
    )
    return manifest.model_copy(update={"heads": [manifest.classifier, manifest.dense]})


class _Oracle(nn.Module):
    """Says the truth of one example, with all landmarks moved down by so many model pixels."""

    second_look = None

    def __init__(self, examples: Examples, lower: float) -> None:
        super().__init__()
        cells = _SIZE // STRIDE
        masks = torch.from_numpy(np.array(examples.masks, np.int32))[:, None]
        bits = torch.tensor([BITS.index(region) for region in REGIONS])[:, None, None]
        regions = nn.functional.avg_pool2d(((masks >> bits) & 1).float(), STRIDE // 2)
        courses = course_maps(
            torch.from_numpy(np.array(examples.courses)), torch.from_numpy(np.array(examples.radii)), STRIDE, cells
        )
        landmarks = torch.from_numpy(np.array(examples.landmarks))
        landmarks[:, : len(COURSES), 1] += lower
        maps = torch.cat([regions, courses, heat_maps(landmarks, STRIDE, cells)], dim=1)
        self.dense = _SURE * (2 * maps - 1)

    def forward(self, images: Tensor) -> NetworkOutput:
        patches = (_SIZE // 16) ** 2
        attention = torch.full((1, 1, len(_TARGETS), patches), 1 / patches)
        return NetworkOutput(torch.full((1, len(_TARGETS)), _SURE), attention, self.dense)


@pytest.fixture(scope="module")
def intubated() -> Phantom:
    """The first frozen phantom whose tube ends well above the carina, both on the film."""
    for seed in range(5_000_000, 5_000_100):
        small = render_phantom(seed, 128, 128, family=Family.FROZEN, masks=False)
        tube = small.device(DeviceKind.ENDOTRACHEAL_TUBE)
        if tube is not None and tube.tip is not None and (tube.tip_to_carina_mm or 0) > 20:
            return render_phantom(seed, *film_size(seed, FILM_SIDE), family=Family.FROZEN)
    raise AssertionError("a hundred phantoms without a tube")


@pytest.mark.parametrize("lower", [0.0, 8.0])
def test_errors_are_those_of_the_network_in_millimetres_of_the_patient(
    intubated: Phantom, tmp_path: Path, lower: float
) -> None:
    examples = create_examples(tmp_path, 1, _SIZE)
    write_example(examples, 0, intubated.image, truth_of(intubated), LOOK_PREPROCESSING, 1024)
    with Progress(disable=True) as progress:
        reading = next(read_phantoms(_Oracle(examples, lower), _manifest(), [intubated.seed], progress))[2]  # type: ignore[arg-type]
    mm_per_pixel = intubated.imager_mm_per_pixel / intubated.magnification * max(intubated.image.shape) / _SIZE
    expected = lower * mm_per_pixel
    assert reading.tube.tip_error_mm == pytest.approx(expected, abs=1.5)
    assert reading.tube.carina_error_mm == pytest.approx(0.0, abs=1.5)
    assert reading.devices[Device.ENDOTRACHEAL_TUBE].course_recall > 0.9
    assert reading.dice[Segment.RIGHT_LUNG] > 0.97
    assert reading.truth["endotracheal_tube.presence"] == 1.0
    # What results state of a device, class and course together: of a course no more than a logit of 6 counts.
    assert reading.scores["endotracheal_tube.presence"] == pytest.approx(1 / (1 + np.exp(-(_SURE + 6) / 2)))
    assert reading.scores["endotracheal_tube.malposition"] == pytest.approx(1 / (1 + np.exp(-_SURE)))
    assert CHANNELS[-1] is LANDMARKS[-1] is Landmark.CARINA
