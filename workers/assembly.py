"""Assembly of a study's result: from headers and model outputs to the result document and the DICOM objects.

A pure function of its request (but for reading the files that it names), so that a second attempt builds the same.
Runs in the process pool; called by the results task and by `chexnode analyze`.
"""

from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from node.intake.routing import age_years
from node.triage import malpositioned_tube, urgency
from schemas.bundle import Manifest
from schemas.codes import NOT_FOR_CLINICAL_USE
from schemas.errors import ChexnodeError
from schemas.result import BundleReference, EngineReference, FailedImage, ImageResult, StudyResult
from schemas.settings import ResultObject, SegmentationGeometry
from workers.interpret import interpret
from workers.output import ModelOutput
from workers.pixels import read_area, read_header, read_pixels
from workers.placement import Placement
from workers.results.equipment import part10_bytes
from workers.results.overlay import draw_overlay
from workers.results.report import build_report
from workers.results.secondary_capture import build_secondary_capture
from workers.results.segmentation import build_segmentation
from workers.results.source import ImageIdentity, ReportIdentity, SourceImage
from workers.spacing import image_spacing


@dataclass(frozen=True)
class ImageRequest:
    """One image that the model has seen."""

    path: Path
    sop_instance_uid: str
    #: Model output as `ModelOutput.to_bytes` writes it.
    output: bytes
    identity: ImageIdentity


@dataclass(frozen=True)
class AssemblyRequest:
    """Everything that one version of a study's result is made from."""

    study_instance_uid: str
    version: int
    manifest: Manifest
    bundle_digest: str
    engine: EngineReference
    images: list[ImageRequest]
    #: Images that routing selected and the model could not see.
    failed: list[FailedImage]
    report: ReportIdentity
    #: Content date and time of every object.
    content_time: datetime
    geometry: SegmentationGeometry
    #: Whether to build a Secondary Capture of each image's overlay, and to hand the overlay over as PNG.
    secondary_capture: bool = False
    overlay_png: bool = False


@dataclass(frozen=True)
class BuiltObject:
    """One DICOM object as Part 10 bytes."""

    kind: ResultObject
    sop_class_uid: str
    sop_instance_uid: str
    content: bytes


@dataclass(frozen=True)
class Assembly:
    """A study's result."""

    document: StudyResult
    objects: list[BuiltObject]
    #: PNG of each image's overlay by SOP Instance UID, where asked for.
    overlays: dict[str, bytes]


def assemble(request: AssemblyRequest) -> Assembly:
    """Build the document and the objects: a SEG per image that has any region, an SC if wanted, one SR.

    An image whose header, pixels or output cannot be used is reported in the document as failed; when none is left,
    the first one's error is raised.
    """
    drawable: list[tuple[Path, SourceImage]] = []
    failed = list(request.failed)
    first_error: Exception | None = None
    for image in request.images:
        try:
            drawable.append((image.path, _source(image, request.manifest)))
        except Exception as error:  # noqa: BLE001 - one image must not take the others' results away
            reason = str(error) if isinstance(error, ChexnodeError) else f"{type(error).__name__}: {error}"
            first_error = first_error or error
            failed.append(FailedImage(sop_instance_uid=image.sop_instance_uid, reason=reason))
    if first_error and not drawable:
        raise first_error

    sources = [source for _, source in drawable]
    document = _document(request, [source.result for source in sources], failed)
    objects: list[BuiltObject] = []
    segmentations: list[Dataset] = []
    for source in sources:
        segmentation = build_segmentation(source, document.bundle, request.geometry, request.content_time)
        if segmentation is not None:
            segmentations.append(segmentation)
            objects.append(_built(ResultObject.SEGMENTATION, segmentation))
    overlays: dict[str, bytes] = {}
    model = f"{document.bundle.name} {document.bundle.version}"
    if request.secondary_capture or request.overlay_png:
        for path, source in drawable:
            overlay = draw_overlay(read_pixels(path), source.result, source.masks, document.notice, model)
            if request.secondary_capture:
                capture = build_secondary_capture(source, overlay, document.bundle, request.content_time)
                objects.append(_built(ResultObject.SECONDARY_CAPTURE, capture))
            if request.overlay_png:
                overlays[source.result.sop_instance_uid] = _png(overlay)
    report = build_report(document, sources, segmentations, request.report, request.content_time)
    objects.append(_built(ResultObject.REPORT, report))
    return Assembly(document, objects, overlays)


def _source(image: ImageRequest, manifest: Manifest) -> SourceImage:
    header = read_header(image.path)
    rows, columns = int(header.Rows), int(header.Columns)
    # Only the pixels say where bars are.
    area = read_area(image.path) if manifest.preprocessing.cut_bars else None
    placement = Placement.of(rows, columns, manifest.preprocessing, area)
    found = interpret(
        ModelOutput.from_bytes(image.output),
        manifest,
        placement,
        image_spacing(header),
        age_years=age_years(header),
    )
    result = ImageResult(
        sop_instance_uid=image.sop_instance_uid,
        rows=rows,
        columns=columns,
        findings=found.findings,
        tubes=found.tubes,
        segments=found.segments,
        refused=found.refused,
    )
    return SourceImage(header, result, found.masks, image.identity, placement.seen)


def _document(request: AssemblyRequest, images: list[ImageResult], failed: list[FailedImage]) -> StudyResult:
    manifest = request.manifest
    return StudyResult(
        study_instance_uid=request.study_instance_uid,
        version=request.version,
        bundle=BundleReference(
            name=manifest.name,
            version=manifest.version,
            digest=request.bundle_digest,
            cleared_for_clinical_use=manifest.cleared_for_clinical_use,
            unproven=manifest.unproven,
        ),
        engine=request.engine,
        images=images,
        failed=failed,
        urgency=urgency(images),
        malpositioned_tube=malpositioned_tube(images),
        notice="" if manifest.cleared_for_clinical_use else NOT_FOR_CLINICAL_USE,
    )


def _png(image: NDArray[np.uint8]) -> bytes:
    with BytesIO() as stream:
        Image.fromarray(image).save(stream, "PNG")
        return stream.getvalue()


def _built(kind: ResultObject, dataset: Dataset) -> BuiltObject:
    return BuiltObject(kind, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), part10_bytes(dataset))
