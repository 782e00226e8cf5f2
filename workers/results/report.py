"""The result of record: one Comprehensive 3D SR per study, bundle and version (PS3.3 A.35.13, PS3.16 TID 1500)."""

from collections.abc import Sequence
from datetime import datetime

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    Comprehensive3DSR,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageContentItem,
    ImageLibraryEntryDescriptors,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    TextContentItem,
    TrackingIdentifier,
)
from highdicom.sr.value_types import ContentItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from node.results.foremost import enumerated, pressing_first, tubes_first
from schemas.codes import ACTIONABLE_FINDING, Category
from schemas.identity import MANUFACTURER, software_version
from schemas.result import BundleReference, ImageResult, StudyResult, Urgency
from workers.results.coding import algorithm_of_report, coding_schemes, concept
from workers.results.derived_uid import derived_uid
from workers.results.equipment import (
    REPORT_SERIES_NUMBER,
    blank_header,
    complete,
    own_equipment,
    serial_number,
    series_description,
)
from workers.results.groups import measurement_groups
from workers.results.header import normalise, positive_spacing
from workers.results.requests import referenced_requests
from workers.results.source import Predecessor, ReportIdentity, SourceImage

_QUALITATIVE_EVALUATIONS = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
_PROCEDURE = CodedConcept("399208008", "SCT", "Plain chest X-ray")
_CONTAINS = RelationshipTypeValues.CONTAINS
_HAS_ACQUISITION_CONTEXT = RelationshipTypeValues.HAS_ACQ_CONTEXT


def build_report(
    study: StudyResult,
    sources: Sequence[SourceImage],
    segmentations: Sequence[Dataset],
    identity: ReportIdentity,
    content_time: datetime,
) -> Dataset:
    """The report of `study`: what every analysed image shows, negatives included, preliminary and unverified.

    Of a refused image it says that it was not analysed and why, and nothing else.

    `sources` are the images of `study.images`; `segmentations` (build_segmentation) are listed as evidence. What
    failed or was refused makes the report PARTIAL. Raises ValueError without a source: a study of failures only has no
    report.
    """
    if not sources:
        raise ValueError("A report needs at least one analysed image.")
    headers = [normalise(source.header) for source in sources]
    images = [
        blank_header(header, source.result.rows, source.result.columns)
        for header, source in zip(headers, sources, strict=True)
    ]
    bundle = study.bundle
    predecessor = identity.predecessor
    dataset = Comprehensive3DSR(
        evidence=[*images, *segmentations],
        content=_content(study, sources, headers, images),
        series_instance_uid=identity.series_instance_uid,
        series_number=REPORT_SERIES_NUMBER,
        sop_instance_uid=identity.sop_instance_uid,
        instance_number=study.version,  # viewers sort by it, the newest last
        manufacturer=MANUFACTURER,
        manufacturer_model_name=bundle.name,
        software_versions=software_version(),
        device_serial_number=serial_number(bundle),
        is_complete=not study.failed and not refused_images(study),
        is_final=False,
        is_verified=False,
        requested_procedures=referenced_requests(headers) or None,
        previous_versions=[_reference(predecessor)] if predecessor else None,
        series_description=series_description("report", bundle),
        coding_schemes=coding_schemes(),
        contributing_equipment=[own_equipment(bundle, content_time)],
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    complete(dataset, headers[0], content_time)
    return dataset


def _content(
    study: StudyResult, sources: Sequence[SourceImage], headers: Sequence[Dataset], images: Sequence[Dataset]
) -> MeasurementReport:
    algorithm = algorithm_of_report(study.bundle, study.engine)
    groups = [
        group
        for source, header in zip(sources, headers, strict=True)
        for group in measurement_groups(source, header, algorithm)
    ]
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(study.bundle)),
        procedure_reported=_PROCEDURE,
        imaging_measurements=groups or [_no_group(study.bundle)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    items = content[0].ContentSequence
    # In the order of TID 1500: Image Library, Imaging Measurements, Qualitative Evaluations.
    measurements = items.pop()
    items.append(_image_library(headers, images))
    if groups:
        items.append(measurements)
    items.append(_qualitative_evaluations(study))
    return content


def _no_group(bundle: BundleReference) -> MeasurementsAndQualitativeEvaluations:
    """Of a bundle with regions only: highdicom wants a group, TID 1500 does without, and it is taken out."""
    name = "no group"
    return MeasurementsAndQualitativeEvaluations(TrackingIdentifier(derived_uid(bundle.digest, name), name))


def _observer(bundle: BundleReference) -> ObserverContext:
    """TID 1002 and 1004: the device that observed is the software with this bundle."""
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=derived_uid(bundle.digest, "device"),
            name=f"{MANUFACTURER} {bundle.name} {bundle.version}",
            manufacturer_name=MANUFACTURER,
            model_name=bundle.name,
            serial_number=bundle.digest,
        ),
    )


def _image_library(headers: Sequence[Dataset], images: Sequence[Dataset]) -> ContainerContentItem:
    """TID 1600. highdicom's own asks every projection image for a spacing and an orientation, which many lack."""
    library = ContainerContentItem(name=codes.DCM.ImageLibrary, relationship_type=_CONTAINS)
    group = ContainerContentItem(name=codes.DCM.ImageLibraryGroup, relationship_type=_CONTAINS)
    group.ContentSequence = ContentSequence()
    for header, image in zip(headers, images, strict=True):
        entry = ImageContentItem(
            name=CodedConcept("260753009", "SCT", "Source"),
            referenced_sop_class_uid=header.SOPClassUID,
            referenced_sop_instance_uid=header.SOPInstanceUID,
            relationship_type=_CONTAINS,
        )
        # Without a modality highdicom adds the descriptors that all images have (TID 1602) and no others.
        common = Dataset()
        common.update(image)
        common.Modality = ""
        entry.ContentSequence = ContentSequence()
        entry.ContentSequence.extend(ImageLibraryEntryDescriptors(common, _projection_descriptors(header)))
        group.ContentSequence.append(entry)
    library.ContentSequence = ContentSequence([group])
    return library


def _projection_descriptors(header: Dataset) -> list[ContentItem]:
    """TID 1603, as far as the image says it."""
    items: list[ContentItem] = []
    if len(orientation := header.get("PatientOrientation") or []) == 2:
        items += [
            TextContentItem(name, value, relationship_type=_HAS_ACQUISITION_CONTEXT)
            for name, value in zip(
                (codes.DCM.PatientOrientationRow, codes.DCM.PatientOrientationColumn), orientation, strict=True
            )
        ]
    if spacing := positive_spacing(header):
        items += [
            NumContentItem(name, value, codes.UCUM.Millimeter, relationship_type=_HAS_ACQUISITION_CONTEXT)
            for name, value in zip(
                (codes.DCM.VerticalPixelSpacing, codes.DCM.HorizontalPixelSpacing), spacing, strict=True
            )
        ]
    return items


def _qualitative_evaluations(study: StudyResult) -> ContainerContentItem:
    """What holds for the study as a whole, with the notice and the reasons in words."""
    container = ContainerContentItem(name=_QUALITATIVE_EVALUATIONS, relationship_type=_CONTAINS)
    items = ContentSequence()
    items.append(
        CodeContentItem(codes.DCM.CADProcessingAndFindingsSummary, _summary(study), relationship_type=_CONTAINS)
    )
    if study.urgency is not Urgency.ROUTINE:
        category = Category(study.urgency.value)
        items.append(CodeContentItem(concept(ACTIONABLE_FINDING), concept(category.code), relationship_type=_CONTAINS))
    for comment in _comments(study):
        items.append(TextContentItem(codes.DCM.Comment, comment, relationship_type=_CONTAINS))
    container.ContentSequence = items
    return container


def _summary(study: StudyResult) -> CodedConcept:
    """CID 6047. "Succeeded" is what came to a decision: a PACS may read "all, without findings" as a negative."""
    findings = [finding for image in study.images for finding in image.findings]
    tubes = [tube for image in study.images for tube in image.tubes]
    if not tubes and all(finding.present is None for finding in findings):
        return CodedConcept.from_code(codes.DCM.NoAlgorithmsSucceededWithoutFindings)
    positive = any(finding.present and finding.finding.is_pathology for finding in findings) or any(
        tube.present for tube in tubes
    )
    if study.failed or refused_images(study) or any(finding.present is None for finding in findings):
        summary = (
            codes.DCM.NotAllAlgorithmsSucceededWithFindings
            if positive
            else codes.DCM.NotAllAlgorithmsSucceededWithoutFindings
        )
    else:
        summary = (
            codes.DCM.AllAlgorithmsSucceededWithFindings
            if positive
            else codes.DCM.AllAlgorithmsSucceededWithoutFindings
        )
    return CodedConcept.from_code(summary)


def refused_images(study: StudyResult) -> list[ImageResult]:
    """Images that were refused before any finding (workers/acceptance.py)."""
    return [image for image in study.images if image.refused]


def _comments(study: StudyResult) -> list[str]:
    comments = [study.notice, study.bundle.unproven]
    comments += [
        f"Image {image.sop_instance_uid} was not analysed: {image.refused}." for image in refused_images(study)
    ]
    for image in study.images:
        comments += [
            f"{tube.device.code.meaning} in image {image.sop_instance_uid}: {tube.position_reason}"
            for tube in tubes_first(image.tubes)
            if tube.position_reason
        ]
    undetermined = {each.finding for image in study.images for each in image.findings if each.present is None}
    if undetermined:
        # A summary "without findings" must not be read as if these had been looked for in vain.
        names = enumerated(finding.code.meaning.lower() for finding in pressing_first(undetermined))
        comments.append(f"Not assessed, for want of an operating point: {names}.")
    comments += _probabilities(study)
    comments += [f"Image {failed.sop_instance_uid} was not analysed: {failed.reason}" for failed in study.failed]
    return [comment for comment in comments if comment]


def _probabilities(study: StudyResult) -> list[str]:
    """On which data the numbers that are called probabilities were made, a sentence for each."""
    references = []
    for image in study.images:
        references += [each.calibration for each in image.findings if each.calibrated]
        references += [each.calibration for each in image.tubes if each.calibrated]
        # Of a device that is absent no position is given.
        positions = [each.malposition_calibration for each in image.tubes if each.present]
        references += [each for each in positions if each is not None and each.real]
    counts: dict[str, list[int]] = {}
    for each in filter(None, references):
        counts.setdefault(each.data, []).append(each.n)
    comments = []
    for data, of in counts.items():
        n = f"{min(of)} to {max(of)}" if len(set(of)) > 1 else f"{of[0]}"
        comments.append(f"Probabilities were made on {data} (n = {n}); each holds at the prevalence beside it.")
    return comments


def _reference(predecessor: Predecessor) -> Dataset:
    reference = Dataset()
    reference.SOPClassUID = predecessor.sop_class_uid
    reference.SOPInstanceUID = predecessor.sop_instance_uid
    reference.StudyInstanceUID = predecessor.study_instance_uid
    reference.SeriesInstanceUID = predecessor.series_instance_uid
    return reference
