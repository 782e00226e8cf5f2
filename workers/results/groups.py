"""Measurement groups of a report, one per finding, tube and landmark of an image (TID 1410, planar regions).

Every group has a region: OHIF's viewport stays black for a report with a group that has none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    QualitativeEvaluation,
    SourceImageForRegion,
    TrackingIdentifier,
)
from highdicom.sr import PlanarROIMeasurementsAndQualitativeEvaluations as PlanarGroup
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from node.results.foremost import ranked, tubes_first
from schemas.codes import (
    ABSENT,
    ACTIONABLE_FINDING,
    COURSE_SCORE,
    DEVICE_POSITION,
    DISTANCE_BASIS,
    EVALUATED_REGION,
    HEART,
    LUNG,
    MALPOSITION_PREVALENCE,
    MALPOSITION_PROBABILITY,
    MALPOSITION_SCORE,
    MODEL_SCORE,
    OPERATING_POINT,
    PRESENCE,
    PRESENT,
    PREVALENCE,
    THORAX,
    TIP_TO_CARINA,
    TIP_TO_CARINA_LEAST,
    TIP_TO_CARINA_MOST,
    UNDETERMINED,
    Category,
    Code,
    Landmark,
    Segment,
)
from schemas.result import CalibrationReference, FindingResult, Point, TubeResult
from workers.results.coding import concept
from workers.results.regions import Region, evaluated_region, line
from workers.results.source import SourceImage, device_key, finding_key

#: What is outlined of a site. What has no outline was looked for in the whole image.
_OUTLINED: dict[Code, tuple[Segment, ...]] = {
    LUNG: (Segment.RIGHT_LUNG, Segment.LEFT_LUNG),
    HEART: (Segment.HEART,),
}
#: Decimals that say something: of a score, and of a distance in mm.
_SCORE_DECIMALS = 4
_DISTANCE_DECIMALS = 1


def measurement_groups(
    source: SourceImage, header: Dataset, algorithm: AlgorithmIdentification
) -> Iterator[PlanarGroup]:
    """All groups of one image: tubes with their points, then findings, present or not. `header` is normalised.

    In the order in which they are to be read, since viewers list them as the report has them: what is flagged first
    must not stand after forty findings. A refused image has none.
    """
    groups = _Groups(source, header, algorithm)
    for tube in tubes_first(source.result.tubes):
        yield groups.tube(tube)
        if tube.present and tube.tip:
            yield groups.point(tube, "tip", tube.device.tip.code, tube.tip)
        if tube.present and tube.carina:
            yield groups.point(tube, "carina", Landmark.CARINA.code, tube.carina)
    for finding in ranked(source.result.findings):
        yield groups.finding(finding)


@dataclass(frozen=True)
class _Groups:
    source: SourceImage
    header: Dataset
    algorithm: AlgorithmIdentification

    def finding(self, finding: FindingResult) -> PlanarGroup:
        evaluations = [_presence(finding.present)]
        if finding.present and finding.finding.category:
            evaluations.append(_category(finding.finding.category))
        return self._evaluated(
            key=finding_key(finding.finding),
            code=finding.finding.code,
            site=finding.finding.site,
            segments=_OUTLINED.get(finding.finding.site, ()),
            measurements=_score(finding),
            evaluations=evaluations,
        )

    def tube(self, tube: TubeResult) -> PlanarGroup:
        measurements, evaluations = _score(tube), [_presence(tube.present)]
        if tube.course_score is not None:
            measurements.append(_number(COURSE_SCORE, tube.course_score))
        if tube.present:
            if tube.position is not None:
                evaluations.append(_evaluation(DEVICE_POSITION, tube.position.code))
                if tube.position.category is not None:
                    evaluations.append(_category(tube.position.category))
            if tube.malposition_score is not None:
                measurements += _malposition(tube.malposition_score, tube.malposition_calibration)
            if (distance := tube.tip_to_carina) is not None:
                evaluations.append(_evaluation(DISTANCE_BASIS, distance.basis.code))
                if distance.millimetres is not None:
                    measurements.append(_millimetres(TIP_TO_CARINA, distance.millimetres))
                if distance.lowest_millimetres is not None and distance.highest_millimetres is not None:
                    measurements.append(_millimetres(TIP_TO_CARINA_LEAST, distance.lowest_millimetres))
                    measurements.append(_millimetres(TIP_TO_CARINA_MOST, distance.highest_millimetres))
        if tube.present and len(tube.course) > 1:
            return self._group(
                key=device_key(tube.device),
                label=tube.device.code.meaning,
                code=tube.device.code,
                site=tube.device.site,
                region=self._region(GraphicTypeValues.POLYLINE, line(self.source.result, tube.course)),
                measurements=measurements,
                evaluations=evaluations,
            )
        # The trachea reaches above the lungs, and veins beside them: the whole image was looked at.
        return self._evaluated(
            key=device_key(tube.device),
            code=tube.device.code,
            site=tube.device.site,
            segments=(),
            measurements=measurements,
            evaluations=evaluations,
        )

    def point(self, tube: TubeResult, part: str, code: Code, point: Point) -> PlanarGroup:
        label = code.meaning if part == "carina" else f"{tube.device.code.meaning} {part}"
        return self._group(
            key=device_key(tube.device, part),
            label=label,
            code=code,
            site=tube.device.site,
            region=self._region(GraphicTypeValues.POINT, line(self.source.result, [point])),
            measurements=[],
            evaluations=[],
        )

    def _evaluated(
        self,
        *,
        key: str,
        code: Code,
        site: Code,
        segments: Sequence[Segment],
        measurements: list[Measurement],
        evaluations: list[QualitativeEvaluation],
    ) -> PlanarGroup:
        """A group about a region that was evaluated as a whole, and says so twice: to readers and to machines."""
        region = evaluated_region(self.source, segments)
        return self._group(
            key=key,
            label=f"{code.meaning} (evaluated region)",
            code=code,
            site=site,
            region=self._region(GraphicTypeValues.POLYLINE, region),
            measurements=measurements,
            evaluations=[*evaluations, _evaluation(EVALUATED_REGION, site if segments else THORAX)],
        )

    def _group(
        self,
        *,
        key: str,
        label: str,
        code: Code,
        site: Code,
        region: ImageRegion,
        measurements: list[Measurement],
        evaluations: list[QualitativeEvaluation],
    ) -> PlanarGroup:
        return PlanarGroup(
            # First of all UIDs of the group: OHIF takes the first one it finds for the tracking UID.
            tracking_identifier=TrackingIdentifier(uid=self.source.identity.tracking_uids[key], identifier=label),
            referenced_region=region,
            finding_type=concept(code),
            finding_sites=[FindingSite(concept(site))],
            algorithm_id=self.algorithm,
            measurements=measurements,
            qualitative_evaluations=evaluations,
        )

    def _region(self, graphic_type: GraphicTypeValues, coordinates: Region) -> ImageRegion:
        return ImageRegion(
            graphic_type=graphic_type,
            graphic_data=coordinates.astype(np.float32),
            source_image=SourceImageForRegion(
                referenced_sop_class_uid=self.header.SOPClassUID,
                referenced_sop_instance_uid=self.header.SOPInstanceUID,
            ),
        )


def _evaluation(name: Code, value: Code) -> QualitativeEvaluation:
    return QualitativeEvaluation(concept(name), concept(value))


def _presence(present: bool | None) -> QualitativeEvaluation:
    return _evaluation(PRESENCE, {True: PRESENT, False: ABSENT, None: UNDETERMINED}[present])


def _category(category: Category) -> QualitativeEvaluation:
    return _evaluation(ACTIONABLE_FINDING, category.code)


def _score(result: FindingResult | TubeResult) -> list[Measurement]:
    """The score, called a probability only when it is one, and the operating point that it was held against."""
    name = codes.DCM.Probability if result.calibrated else concept(MODEL_SCORE)
    measurements = [Measurement(name, round(result.score, _SCORE_DECIMALS), codes.UCUM.NoUnits)]
    if result.calibrated and result.calibration is not None:
        measurements.append(_number(PREVALENCE, result.calibration.prevalence))
    if result.operating_point is not None:
        measurements.append(_number(OPERATING_POINT, result.operating_point))
    return measurements


def _malposition(score: float, calibration: CalibrationReference | None) -> list[Measurement]:
    if calibration is None or not calibration.real:
        return [_number(MALPOSITION_SCORE, score)]
    return [_number(MALPOSITION_PROBABILITY, score), _number(MALPOSITION_PREVALENCE, calibration.prevalence)]


def _number(name: Code, value: float) -> Measurement:
    return Measurement(concept(name), round(value, _SCORE_DECIMALS), codes.UCUM.NoUnits)


def _millimetres(name: Code, value: float) -> Measurement:
    return Measurement(concept(name), round(value, _DISTANCE_DECIMALS), codes.UCUM.Millimeter)
