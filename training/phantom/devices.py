"""The devices of one phantom: which are there, where they lie in the patient, and their truth on the image.

Called by render: draw_devices before the projection, device_truths with the finished image.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.codes import TubePosition
from schemas.result import Point
from training.phantom.body import Body
from training.phantom.chest_tube import draw_chest_tube
from training.phantom.contrast import contrast_to_noise
from training.phantom.device_parts import PlacedDevice
from training.phantom.endotracheal_tube import TubeChoice, draw_endotracheal_tube
from training.phantom.gastric_tube import draw_gastric_tube
from training.phantom.geometry import Geometry
from training.phantom.truth import DeviceKind, DeviceTruth, Family
from training.phantom.venous_lines import draw_central_venous_catheter, draw_pulmonary_artery_catheter
from training.phantom.wired_devices import draw_ecg_leads, draw_pacemaker

#: Share of phantoms with an endotracheal tube when any is asked for.
TUBE_SHARE = 0.55
# Share of phantoms with each other device, without and with an endotracheal tube. The view has no say: a model could
# read the device off the view.
_SHARES = {
    DeviceKind.NASOGASTRIC_TUBE: (0.22, 0.55),
    DeviceKind.CENTRAL_VENOUS_CATHETER: (0.28, 0.50),
    DeviceKind.PULMONARY_ARTERY_CATHETER: (0.04, 0.10),
    DeviceKind.CHEST_TUBE: (0.07, 0.12),
    DeviceKind.PACEMAKER: (0.08, 0.06),
    DeviceKind.ECG_LEADS: (0.22, 0.50),
}
#: Few persons younger than this have a pacemaker.
_YOUNG_YEARS = 30.0


def draw_devices(
    rng: np.random.Generator, body: Body, family: Family, tube: TubeChoice = TubeChoice.ANY
) -> tuple[PlacedDevice, ...]:
    """The devices of one patient, endotracheal tube first."""
    tubed = tube is not TubeChoice.ABSENT and (tube is not TubeChoice.ANY or rng.random() < TUBE_SHARE)
    devices = [draw_endotracheal_tube(rng, body, family, tube)] if tubed else []
    for kind, shares in _SHARES.items():
        rare = kind is DeviceKind.PACEMAKER and body.age_years < _YOUNG_YEARS
        if rng.random() < shares[tubed] * (0.2 if rare else 1.0):
            devices.extend(draw_device(rng, kind, body, family))
    return tuple(devices)


def draw_device(rng: np.random.Generator, kind: DeviceKind, body: Body, family: Family) -> tuple[PlacedDevice, ...]:
    """One device of a kind; those with several leads as one each."""
    match kind:
        case DeviceKind.ENDOTRACHEAL_TUBE:
            return (draw_endotracheal_tube(rng, body, family),)
        case DeviceKind.NASOGASTRIC_TUBE:
            return (draw_gastric_tube(rng, body, family),)
        case DeviceKind.CENTRAL_VENOUS_CATHETER:
            return (draw_central_venous_catheter(rng, body, family),)
        case DeviceKind.PULMONARY_ARTERY_CATHETER:
            return (draw_pulmonary_artery_catheter(rng, body, family),)
        case DeviceKind.CHEST_TUBE:
            return (draw_chest_tube(rng, body, family),)
        case DeviceKind.PACEMAKER:
            return draw_pacemaker(rng, body, family)
        case DeviceKind.ECG_LEADS:
            return draw_ecg_leads(rng, body, family)


def device_truths(
    devices: Sequence[PlacedDevice],
    geometry: Geometry,
    image: NDArray[np.float32],
    exposed: NDArray[np.bool_] | None = None,
) -> tuple[DeviceTruth, ...]:
    """What of each device is on the finished image float32 [rows, columns]; `exposed` is False under collimation."""
    return tuple(_truth(device, geometry, image, exposed) for device in devices)


def _truth(
    device: PlacedDevice, geometry: Geometry, image: NDArray[np.float32], exposed: NDArray[np.bool_] | None
) -> DeviceTruth:
    course, magnification = geometry.project(device.course)
    seen = np.all((course >= 0) & (course < [geometry.columns, geometry.rows]), axis=1)
    if exposed is not None:
        columns, rows = np.where(seen[:, None], course, 0).astype(int).T
        seen &= exposed[rows, columns]
    tip = Point(x=float(course[-1, 0]), y=float(course[-1, 1])) if seen[-1] else None
    position = None if device.judgement is None else device.judgement.position
    reason = "" if device.judgement is None else device.judgement.reason
    if tip is None and position is not None:
        position, reason = TubePosition.INCOMPLETELY_IMAGED, "The tip lies outside of the image."
    pixels_per_mm = float(magnification.mean()) / geometry.imager_mm_per_pixel
    return DeviceTruth(
        kind=device.kind,
        course=course[seen],
        radius_mm=device.radius_mm,
        tip=tip,
        position=position,
        reason=reason,
        contrast_to_noise=contrast_to_noise(image, course[seen], device.radius_mm, pixels_per_mm),
        tip_to_carina_mm=device.tip_to_carina_mm,
    )
