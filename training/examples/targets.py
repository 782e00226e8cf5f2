"""What can be learned from an example, phantom or radiograph, and in which column, bit or channel it stands.

Used by the example store, the batches, the losses and the evaluation. A bundle answers those of `TARGETS` that its
training data taught (`training.examples.mixture.Mixture.taught`).
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Acceptance
from schemas.codes import Device, Finding, Landmark, Segment, TubePosition
from training.phantom.truth import DeviceKind, Phantom, Structure, View

#: Anterior-posterior (1) or posterior-anterior (0).
VIEW_AP = "view.ap"
#: Columns of the classes of an example.
TARGETS: tuple[str, ...] = (
    *(finding.value for finding in Finding),
    *(f"{device.value}.{question}" for device in Device for question in ("presence", "malposition")),
    VIEW_AP,
    *(acceptance.value for acceptance in Acceptance),
)
#: Devices whose course and tip are learned, in the order of an example's courses.
DEVICES: tuple[Device, ...] = (
    Device.ENDOTRACHEAL_TUBE,
    Device.NASOGASTRIC_TUBE,
    Device.CENTRAL_VENOUS_CATHETER,
)
#: Regions, in the order of the lower bits of an example's masks.
REGIONS: tuple[Segment, ...] = (
    Segment.RIGHT_LUNG,
    Segment.LEFT_LUNG,
    Segment.HEART,
    Segment.CLAVICLES,
    Segment.RIBS,
)
#: Findings that have a place of their own, in the order of the bits above: patch tokens are told where they are.
PLACED_FINDINGS: tuple[Finding, ...] = (
    Finding.PLEURAL_EFFUSION,
    Finding.PNEUMOTHORAX,
    Finding.CONSOLIDATION,
    Finding.ATELECTASIS,
    Finding.NODULE,
    Finding.MASS,
    Finding.LUNG_OPACITY,
    Finding.RIB_FRACTURE,
    Finding.CLAVICLE_FRACTURE,
    Finding.AORTIC_CALCIFICATION,
    Finding.EMPHYSEMA,
)
#: The tips of `DEVICES`, then the carina: an example's landmarks.
LANDMARKS: tuple[Landmark, ...] = (
    Landmark.ENDOTRACHEAL_TUBE_TIP,
    Landmark.NASOGASTRIC_TUBE_TIP,
    Landmark.CENTRAL_VENOUS_CATHETER_TIP,
    Landmark.CARINA,
)
#: Findings that are lung opacities, as the labels of CheXpert and MIMIC-CXR have it (Irvin et al., AAAI 2019).
OPACITIES = frozenset(
    {Finding.CONSOLIDATION, Finding.EDEMA, Finding.ATELECTASIS, Finding.MASS, Finding.NODULE, Finding.LUNG_OPACITY}
)
COURSES: tuple[Segment, ...] = (
    Segment.ENDOTRACHEAL_TUBE,
    Segment.NASOGASTRIC_TUBE,
    Segment.CENTRAL_VENOUS_CATHETER,
)
#: Channels of the dense head, in the manifest's order.
CHANNELS: tuple[Segment | Landmark, ...] = (*REGIONS, *COURSES, *LANDMARKS)
#: Channels of the second look: course, tip and carina of the endotracheal tube; the other courses so that it learns
#: to tell them from it.
CLOSER_CHANNELS: tuple[Segment | Landmark, ...] = (*COURSES, Landmark.ENDOTRACHEAL_TUBE_TIP, Landmark.CARINA)


def phantom_classes(phantom: Phantom) -> dict[str, float]:
    """What is known of a phantom: 1 present, 0 absent; what is missing is unknown or makes no sense."""
    frontal = phantom.view is not View.LATERAL
    classes = acceptance_classes(Acceptance.FRONTAL_CHEST if frontal else Acceptance.LATERAL)
    if not frontal:
        return classes
    classes[VIEW_AP] = float(phantom.view is View.AP)
    for finding in phantom.answered:
        classes[finding.value] = float(finding in phantom.findings)
    if phantom.findings & OPACITIES:
        classes[Finding.LUNG_OPACITY.value] = 1.0
    for device in DEVICES:
        drawn = [each for each in phantom.devices if each.kind is DeviceKind(device.value)]
        # A device of which nothing lies on the image is not to be seen there.
        visible = [each for each in drawn if len(each.course)]
        classes[f"{device.value}.presence"] = float(bool(visible))
        judged = [each.position for each in visible if each.position not in (None, TubePosition.INCOMPLETELY_IMAGED)]
        if judged:
            classes[f"{device.value}.malposition"] = float(TubePosition.ABNORMAL in judged)
    return classes


def acceptance_classes(kind: Acceptance) -> dict[str, float]:
    """The classes that say what kind of image it is; all of them are known of every image."""
    return {each.value: float(each is kind) for each in Acceptance}


def class_row(classes: Mapping[str, float]) -> NDArray[np.float32]:
    """float32 [TARGETS]: NaN where nothing is known. What is no target is left out."""
    return np.array([classes.get(target, math.nan) for target in TARGETS], np.float32)


def structure_of(region: Segment) -> Structure:
    """The phantom's name of a region."""
    return Structure(region.value)
