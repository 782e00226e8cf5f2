"""One study, looked at in OHIF: image, report and segmentation, each against what is known of it.

Used by the tests and by benchmarks/viewer.py. Two things are kept apart: whether the screen shows what the objects say
(the viewer's part, in pixels), and whether that is true of the phantom (the model's part).
"""

import re
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import requests
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage
from scipy import ndimage
from sqlalchemy import select

from schemas.codes import NOT_FOR_CLINICAL_USE, Device, Segment
from schemas.result import ImageResult, StudyResult
from schemas.tables import Instance, Result, StoredObject, Study, Tracking
from tests.support.live_node import LiveNode
from tests.support.peers import Orthanc
from tests.support.phantoms import lungs_of
from tests.viewer import screen
from tests.viewer.ohif import Label, Ohif
from tests.viewer.screen import Placement
from training.phantom.truth import DeviceKind, Phantom
from workers.results.equipment import REPORT_SERIES_NUMBER, SEGMENTATION_SERIES_NUMBER
from workers.results.source import device_key

#: From here on something counts as shown in the wrong place, screen pixels.
LIMIT_PX = 2.0
#: Least correlation of the image on the screen with the pixels that were sent.
_CORRELATION = 0.995
#: Largest distance of a segment's colour on the screen from its recommended one, sRGB 0..255.
_COLOUR = 30.0


@dataclass(frozen=True)
class Case:
    """A study that went through the node, with what is known of it."""

    href: str
    image: Path
    phantom: Phantom
    result: ImageResult
    segmentation: Dataset
    #: Tracking UIDs of the tube's tip and of the carina.
    tip_uid: str
    carina_uid: str


@dataclass
class Seen:
    """What the screen showed; distances in screen pixels."""

    scale: float
    image_shift: float
    image_correlation: float
    summary: list[str]
    labels: list[Label]
    overprinted: list[str]
    #: How often the notice stood on the screen, with image, report and segmentation.
    notices: list[int]
    #: Distance of the arrow's tip from the tube tip of the result; None without a tube.
    tip: float | None
    #: The same from the arrow's tip to the nearest pixel that the arrow changed.
    tip_drawn: float | None
    carina: float | None
    #: Distance of the arrow's tip from the true tube tip, mm on the detector.
    tip_truth_mm: float | None
    #: Of the segmentation's edge pixels from where they should be.
    edge: NDArray[np.float64]
    overlap: float
    #: Dice of the lungs on the screen with the true lungs.
    lungs_truth: float
    #: Distance of each segment's colour from the recommended one.
    colours: dict[str, float]
    segments: list[str]
    faults: list[str] = field(default_factory=list)


def read_case(node: LiveNode, orthanc: Orthanc, href: str, image: Path, phantom: Phantom) -> Case:
    """The study of the file `image`, as the node's ledger and the PACS have it."""
    header = dcmread(image, stop_before_pixels=True)
    with node.ledger.read() as session:
        query = select(Result).join(Study).where(Study.study_instance_uid == header.StudyInstanceUID, Result.current)
        result = session.scalars(query).one()
        document = StudyResult.model_validate_json(result.document or "")
        objects = select(StoredObject.sop_instance_uid).where(
            StoredObject.result_id == result.id, StoredObject.sop_class_uid == SegmentationStorage
        )
        uid = session.scalars(objects).one()
        tracked = select(Tracking.tracking_uid).join(Instance, Tracking.instance_id == Instance.id)
        tracked = tracked.where(Instance.sop_instance_uid == str(header.SOPInstanceUID))
        tip_uid, carina_uid = (
            session.scalars(tracked.where(Tracking.key == device_key(Device.ENDOTRACHEAL_TUBE, part))).one()
            for part in ("tip", "carina")
        )
    instance = orthanc.client.instances.lookup(uid)
    content = requests.get(f"{orthanc.url}/instances/{instance}/file", timeout=10).content
    return Case(href, image, phantom, document.images[0], dcmread(BytesIO(content)), tip_uid, carina_uid)


def look(ohif: Ohif, case: Case, keep: str = "") -> Seen:
    """Open the study, its report and its segmentation; `keep` names the screenshots that are kept."""
    ohif.open(case.href)
    placement = Placement(case.result.rows, case.result.columns, ohif.viewport())
    plain = ohif.image()
    _keep(ohif, keep, "image")
    notices = [ohif.shows(NOT_FOR_CLINICAL_USE)]
    shift_right, shift_down, correlation = screen.image_shift(placement, _grey(case.image), plain)

    ohif.show_report(REPORT_SERIES_NUMBER)
    _keep(ohif, keep, "report")
    labels, summary, overprinted = ohif.labels(), ohif.overlay(), ohif.overprinted()
    notices.append(ohif.shows(NOT_FOR_CLINICAL_USE))
    drawn = screen.changed(ohif.image(), ohif.annotated())
    tip, tip_drawn, tip_truth, carina = _points(placement, case, labels, drawn)

    ohif.show_segmentation(SEGMENTATION_SERIES_NUMBER)
    _keep(ohif, keep, "segmentation")
    notices.append(ohif.shows(NOT_FOR_CLINICAL_USE))
    covered = ohif.image()
    shown = screen.changed(plain, covered)
    masks = {name: placement.project(mask) for name, mask in screen.segment_masks(case.segmentation).items()}
    colours = _colours(case.segmentation, masks, plain, covered)
    seen = Seen(
        scale=placement.scale,
        image_shift=float(np.hypot(shift_right, shift_down)),
        image_correlation=correlation,
        summary=summary,
        labels=labels,
        overprinted=overprinted,
        notices=notices,
        tip=tip,
        tip_drawn=tip_drawn,
        tip_truth_mm=tip_truth,
        carina=carina,
        edge=screen.edge_distances(np.any(list(masks.values()), axis=0), shown),
        overlap=screen.overlap(np.any(list(masks.values()), axis=0), shown),
        lungs_truth=_lungs_truth(placement, case, masks, shown),
        colours=colours,
        segments=ohif.segment_names(),
    )
    _keep(ohif, keep, "segments")
    seen.faults = _faults(seen, case, list(masks)) + ohif.problems
    return seen


def _keep(ohif: Ohif, keep: str, what: str) -> None:
    if keep:
        ohif.keep(f"{keep}-{what}")


def _grey(path: Path) -> NDArray[np.float64]:
    """The image as a reader is to see it: the higher, the brighter (PS3.3 C.7.6.3.1.2)."""
    dataset = dcmread(path)
    pixels = dataset.pixel_array.astype(np.float64)
    return pixels.max() - pixels if dataset.PhotometricInterpretation == "MONOCHROME1" else pixels


def _points(
    placement: Placement, case: Case, labels: list[Label], drawn: NDArray[np.bool_]
) -> tuple[float | None, float | None, float | None, float | None]:
    left, top = placement.corner
    arrows = {
        label.uid: (left + label.x, top + label.y) for label in labels if label.x is not None and label.y is not None
    }
    tube = case.result.tubes[0]
    tip = tip_drawn = tip_truth = carina = None
    if (arrow := arrows.get(case.tip_uid)) is not None:
        tip = None if tube.tip is None else _distance(arrow, placement.to_screen(tube.tip.x, tube.tip.y))
        down, right = np.nonzero(drawn)
        tip_drawn = float(np.hypot(right + 0.5 - arrow[0], down + 0.5 - arrow[1]).min())
        drawn_tube = case.phantom.device(DeviceKind.ENDOTRACHEAL_TUBE)
        if drawn_tube is not None and drawn_tube.tip is not None:
            true = placement.to_screen(drawn_tube.tip.x, drawn_tube.tip.y)
            tip_truth = _distance(arrow, true) / placement.scale * case.phantom.imager_mm_per_pixel
    if (arrow := arrows.get(case.carina_uid)) is not None and tube.carina is not None:
        carina = _distance(arrow, placement.to_screen(tube.carina.x, tube.carina.y))
    return tip, tip_drawn, tip_truth, carina


def _distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    return float(np.hypot(one[0] - other[0], one[1] - other[1]))


def _colours(
    segmentation: Dataset, masks: dict[str, NDArray[np.bool_]], plain: screen.Pixels, covered: screen.Pixels
) -> dict[str, float]:
    """How far each segment's colour is from its recommended one, where no other segment lies."""
    recommended, alone = {}, {}
    for item in segmentation.SegmentSequence:
        name = str(item.SegmentLabel)
        others = [mask for other, mask in masks.items() if other != name]
        inner = ndimage.binary_erosion(masks[name], iterations=3)
        inner &= ~ndimage.binary_dilation(np.any(others, axis=0), iterations=3)
        if inner.sum() >= 100:
            alone[name] = inner
        lightness, a, b = item.RecommendedDisplayCIELabValue
        recommended[name] = screen.display_colour(
            (lightness / 65535 * 100, a / 65535 * 255 - 128, b / 65535 * 255 - 128)
        )
    found = screen.fill_colours(plain, covered, alone)
    return {
        name: float(np.linalg.norm(found[name] - colour)) if name in found else float("nan")
        for name, colour in recommended.items()
    }


def _lungs_truth(
    placement: Placement, case: Case, masks: dict[str, NDArray[np.bool_]], shown: NDArray[np.bool_]
) -> float:
    """Dice of the true lungs with what is coloured on the screen where the segmentation says lung."""
    lungs = [Segment.RIGHT_LUNG, Segment.LEFT_LUNG]
    said = np.any([masks[each.code.meaning] for each in lungs if each.code.meaning in masks], axis=0)
    return screen.overlap(placement.project(lungs_of(case.phantom)), shown & said)


def _faults(seen: Seen, case: Case, segments: list[str]) -> list[str]:
    """What the screen does not show as the objects have it."""
    faults = []
    if seen.image_shift >= LIMIT_PX or seen.image_correlation < _CORRELATION:
        faults.append(f"image: {seen.image_shift:.2f} px off, correlation {seen.image_correlation:.4f}")
    tube = case.result.tubes[0]
    # The report names the carina as what the tip is measured from, so only with a tube.
    carina = tube.carina if tube.present else None
    for name, wanted, distance in (("tip", tube.tip, seen.tip), ("carina", carina, seen.carina)):
        if (wanted is None) != (distance is None) or (distance or 0) >= LIMIT_PX:
            faults.append(f"{name}: {distance} px off")
    if seen.tip_drawn is not None and seen.tip_drawn >= LIMIT_PX:
        faults.append(f"nothing is drawn within {seen.tip_drawn:.1f} px of the tip")
    if np.percentile(seen.edge, 95) >= LIMIT_PX or seen.overlap < 0.98:
        faults.append(f"segmentation: edge {np.percentile(seen.edge, 95):.1f} px off, overlap {seen.overlap:.3f}")
    faults += [f"{name}: colour {off:.0f} off" for name, off in seen.colours.items() if not off < _COLOUR]
    if [text.splitlines()[-1] for text in seen.segments] != segments:
        faults.append(f"segments are called {seen.segments}, not {segments}")
    if min(seen.notices) < 2:
        faults.append(f"the notice stands in header and image {seen.notices} times")
    faults += [f"the label {text!r} lies over another or outside" for text in seen.overprinted]
    lacking = [
        f"summary lacks {beginning!r} {number}"
        for beginning, number, tolerance in _summary(case.result)
        if not any(_says(line, beginning, number, tolerance) for line in seen.summary)
    ]
    if "More findings are in the report." in seen.summary:
        # Only what is there, and where it lies, has to be on the image.
        lacking = [each for each in lacking if ": absent (" not in each and ": undetermined (" not in each]
    return faults + lacking


def _says(line: str, beginning: str, number: float | None, tolerance: float) -> bool:
    """Whether the line begins so and goes on with about that number."""
    found = re.match(r"[0-9.]+", line.removeprefix(beginning))
    if not line.startswith(beginning) or (number is not None and found is None):
        return False
    return number is None or (found is not None and abs(float(found[0]) - number) <= tolerance)


def _summary(result: ImageResult) -> list[tuple[str, float | None, float]]:
    """What the summary has to hold: beginning of a line, the number that follows, and its rounding."""
    words = {True: "present", False: "absent", None: "undetermined"}
    wanted: list[tuple[str, float | None, float]] = [
        (f"{each.finding.code.meaning}: {words[each.present]} (", each.score, 0.0051) for each in result.findings
    ]
    for tube in result.tubes:
        name = tube.device.code.meaning
        wanted.append((f"{name}: {words[tube.present]} (", tube.score, 0.0051))
        if tube.position is not None:
            position = f"{name}: position {tube.position.value.replace('_', ' ')}"
            distance = tube.tip_to_carina.millimetres if tube.tip_to_carina else None
            if distance is None:
                wanted.append((position, None, 0))
            else:
                wanted.append((f"{position}, ", abs(distance), 0.051))
    return wanted
