"""The truth of a phantom as a document, written beside its image by `chexnode phantom`."""

from pydantic import BaseModel, ConfigDict

from schemas.codes import Finding, TubePosition
from schemas.result import Point
from training.phantom.truth import DeviceKind, DeviceTruth, Family, Phantom, Structure, View


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceTruthDocument(_Document):
    """One device as drawn; see `DeviceTruth`."""

    kind: DeviceKind
    #: From where it enters the image to its end on it.
    course: list[Point]
    radius_mm: float
    tip: Point | None
    position: TubePosition | None
    reason: str
    contrast_to_noise: float
    tip_to_carina_mm: float | None


class PhantomTruth(_Document):
    """Points are image pixel coordinates as in SCOORD; see `Phantom` for what each value means."""

    seed: int
    family: Family
    #: "" when the image was written as PNG only.
    sop_instance_uid: str
    rows: int
    columns: int
    view: View
    age_years: float
    sex: str
    rotation_degrees: float
    turn_degrees: float
    inspiration: float
    imager_mm_per_pixel: float
    magnification: float
    #: Present; what is in `answered` and not here is absent, the rest unknown.
    findings: list[Finding]
    answered: list[Finding]
    landmarks: dict[str, Point]
    devices: list[DeviceTruthDocument]
    foreign_objects: int
    #: Pixels inside each mask.
    mask_pixels: dict[Structure, int]
    finding_pixels: dict[Finding, int]


def phantom_truth(phantom: Phantom, sop_instance_uid: str = "") -> PhantomTruth:
    """What was drawn, for the image with this UID."""
    rows, columns = phantom.image.shape
    return PhantomTruth(
        seed=phantom.seed,
        family=phantom.family,
        sop_instance_uid=sop_instance_uid,
        rows=rows,
        columns=columns,
        view=phantom.view,
        age_years=phantom.age_years,
        sex=phantom.sex,
        rotation_degrees=phantom.rotation_degrees,
        turn_degrees=phantom.turn_degrees,
        inspiration=phantom.inspiration,
        imager_mm_per_pixel=phantom.imager_mm_per_pixel,
        magnification=phantom.magnification,
        findings=sorted(phantom.findings),
        answered=sorted(phantom.answered),
        landmarks=phantom.landmarks,
        devices=[_device(device) for device in phantom.devices],
        foreign_objects=phantom.foreign_objects,
        mask_pixels={structure: int(mask.sum()) for structure, mask in phantom.masks.items()},
        finding_pixels={finding: int(mask.sum()) for finding, mask in phantom.finding_masks.items()},
    )


def _device(device: DeviceTruth) -> DeviceTruthDocument:
    return DeviceTruthDocument(
        kind=device.kind,
        course=[Point(x=float(x), y=float(y)) for x, y in device.course],
        radius_mm=device.radius_mm,
        tip=device.tip,
        position=device.position,
        reason=device.reason,
        contrast_to_noise=device.contrast_to_noise,
        tip_to_carina_mm=device.tip_to_carina_mm,
    )
