"""What result objects are built from: the analysed images, and the UIDs that the ledger minted for their results."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from schemas.bundle import Manifest
from schemas.codes import Device, Finding, Segment
from schemas.result import ImageResult

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ImageIdentity:
    """UIDs minted for the results of one image.

    Every Segmentation and Secondary Capture has a series of its own: OHIF opens the last instance of a series only.
    """

    segmentation_sop_instance_uid: str
    segmentation_series_instance_uid: str
    secondary_capture_sop_instance_uid: str
    secondary_capture_series_instance_uid: str
    #: Tracking UID by key (`tracking_keys`); the same over all versions of the study's result.
    tracking_uids: Mapping[str, str]


@dataclass(frozen=True)
class SourceImage:
    """One analysed image.

    `header` is the data set as received, without Pixel Data; it need not be clean (header.normalise).
    `masks` are bool [rows, columns] in the image's own pixel grid; a missing or empty mask is no segment.
    """

    header: Dataset
    result: ImageResult
    masks: Mapping[Segment, Mask]
    identity: ImageIdentity
    #: What the model saw of the image, float64 [2, 2]: (x, y) of the top left and bottom right corner; None: all of it.
    seen: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Predecessor:
    """The report that a new version replaces (Predecessor Documents Sequence, PS3.3 C.17.2)."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True)
class ReportIdentity:
    """UIDs minted for one version of a study's report, in a series of its own."""

    sop_instance_uid: str
    series_instance_uid: str
    predecessor: Predecessor | None = None


def finding_key(finding: Finding) -> str:
    return finding.value


def device_key(device: Device, part: str = "") -> str:
    """`part`: "" for the device, "tip" or "carina" for its points."""
    return f"{device.value}.{part}" if part else device.value


def segment_key(segment: Segment) -> str:
    return f"segment.{segment.value}"


def tracking_keys(
    findings: Iterable[Finding], devices: Iterable[Device] = Device, segments: Iterable[Segment] = Segment
) -> tuple[str, ...]:
    """Every key of `ImageIdentity.tracking_uids` that the results of one image can need (one device of a kind).

    They are those of what the bundle scores and outlines.
    """
    return (
        *(finding_key(finding) for finding in findings),
        *(device_key(device, part) for device in devices for part in ("", "tip", "carina")),
        *(segment_key(segment) for segment in segments),
    )


def keys_of(manifest: Manifest) -> tuple[str, ...]:
    """`tracking_keys` of what the results of this bundle can say."""
    segments = [each for each in manifest.channels if isinstance(each, Segment)]
    return tracking_keys(manifest.findings, manifest.devices, segments)
