"""How far the images of studies are, under each bundle: analysed, under way, or not to be analysed, and why.

A result speaks for an image only while the image is what the result was made from: the same UID may come again with
other pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from node.results.bundle_results import StudyResults
from schemas.tables import Bundle, BundleState, Inference, Instance, Result, ResultImage, Series, WorkState


class Analysis(StrEnum):
    #: The current result speaks for it.
    DONE = "done"
    #: Under way, or its result is being made.
    PENDING = "pending"
    #: Selected, and given up.
    FAILED = "failed"
    #: There is a current result, which this version of the software cannot read.
    UNREADABLE = "unreadable"
    #: Routing set it aside.
    SET_ASIDE = "set_aside"


@dataclass(frozen=True)
class BundleAnalysis:
    """How far an image is under one of the bundles that routing gave it to."""

    #: Name of the bundle; "" for one that this node never registered.
    bundle: str
    analysis: Analysis
    #: Why it failed or says nothing; "" otherwise.
    reason: str = ""


@dataclass(frozen=True)
class ImageState:
    instance: Instance
    #: By name of the bundle; empty when it is set aside, or selected and not queued yet.
    parts: list[BundleAnalysis] = field(default_factory=list)

    @property
    def analysis(self) -> Analysis:
        """Under way while any bundle is at it; then failed when any has given it up, or not readable."""
        if not self.instance.selected:
            return Analysis.SET_ASIDE
        found = {part.analysis for part in self.parts}
        if not found or Analysis.PENDING in found:
            return Analysis.PENDING
        return next((each for each in (Analysis.FAILED, Analysis.UNREADABLE) if each in found), Analysis.DONE)

    @property
    def reason(self) -> str:
        """Why it failed, cannot be read or was set aside, with the bundle where there are several; "" otherwise."""
        if not self.instance.selected:
            return self.instance.route_explanation
        missing = [part for part in self.parts if part.analysis in (Analysis.FAILED, Analysis.UNREADABLE)]
        if len(self.parts) < 2:
            return "".join(part.reason for part in missing)
        return " ".join(f"{part.bundle or 'unknown bundle'}: {part.reason}" for part in missing)

    def under(self, bundle: str) -> Analysis | None:
        """How far it is under this bundle; None when that has nothing to do with it."""
        return next((part.analysis for part in self.parts if part.bundle == bundle), None)


def image_states(session: Session, results: dict[int, StudyResults]) -> dict[int, list[ImageState]]:
    """The instances of studies, in the order in which they came.

    Parameters
    ----------
    results
        Study key -> its results (`study_results`).
    """
    made_from = _made_from(session, [each for of_study in results.values() for each in of_study.rows])
    found: dict[int, list[tuple[Instance, list[_Row]]]] = {key: [] for key in results}
    rows = session.execute(
        select(Series.study_id, Instance, Inference, Bundle.name, Bundle.state)
        .join(Instance, Instance.series_id == Series.id)
        .outerjoin(Inference, and_(Instance.selected, Inference.pixel_digest == Instance.pixel_digest))
        .outerjoin(Bundle, Bundle.digest == Inference.bundle_digest)
        .where(Series.study_id.in_(list(results)))
        .order_by(Instance.id, Inference.id.desc())
    )
    for study_id, instance, inference, bundle_name, bundle_state in rows:
        of_study = found[study_id]
        if not of_study or of_study[-1][0] is not instance:
            of_study.append((instance, []))
        if inference is not None:
            of_study[-1][1].append(_Row(inference, bundle_name, bundle_state))
    return {
        key: [ImageState(instance, _parts(instance, queued, results[key], made_from)) for instance, queued in of_study]
        for key, of_study in found.items()
    }


@dataclass(frozen=True)
class _Row:
    """An inference of an image, with what the registry says of its bundle: None for one that it does not know."""

    inference: Inference
    bundle_name: str | None
    bundle_state: str | None


def _parts(
    instance: Instance, queued: list[_Row], results: StudyResults, made_from: set[tuple[int, int, str]]
) -> list[BundleAnalysis]:
    if not instance.selected:
        return []
    names = {result.bundle_digest: result.bundle_name for result in results.rows}
    speaking = [each for each in results.rows if (each.id, instance.id, instance.pixel_digest) in made_from]
    # Of several inferences under one name that of the active version counts, else the newest; but of a bundle that was
    # retired before it came to this image none: it says nothing of it, and will not.
    counts: dict[str, Inference] = {}
    for row in sorted(queued, key=lambda each: each.bundle_state != BundleState.ACTIVE):
        name = names.get(row.inference.bundle_digest, row.bundle_name or "")
        awaited = row.bundle_state in (None, BundleState.ACTIVE) or row.inference.bundle_digest in names
        if awaited or len(queued) == 1:
            counts.setdefault(name, row.inference)
    everyone = sorted({*counts, *(each.bundle_name for each in speaking)})
    return [_part(instance, name, counts.get(name), speaking, results) for name in everyone]


def _part(
    instance: Instance, name: str, inference: Inference | None, speaking: list[Result], results: StudyResults
) -> BundleAnalysis:
    own = [each for each in speaking if each.bundle_name == name]
    if current := next((each for each in own if each.current), None):
        document = results.documents.get(current.id)
        if document is None:
            reason = "The result of this model cannot be read by this version of CheXNode."
            return BundleAnalysis(name, Analysis.UNREADABLE, reason)
        failed = {each.sop_instance_uid: each.reason for each in document.failed}
        if instance.sop_instance_uid in failed:
            return BundleAnalysis(name, Analysis.FAILED, failed[instance.sop_instance_uid])
        return BundleAnalysis(name, Analysis.DONE)
    if inference is not None and inference.state == WorkState.FAILED:
        return BundleAnalysis(name, Analysis.FAILED, inference.error)
    last = own[-1] if own else None
    if last and last.state == WorkState.FAILED and (inference is None or _is_of(inference, last)):
        return BundleAnalysis(name, Analysis.FAILED, f"No result could be made of it. {last.error}")
    return BundleAnalysis(name, Analysis.PENDING)


def _is_of(inference: Inference, result: Result) -> bool:
    """Whether the result had this analysis: nothing better is under way."""
    return inference.state == WorkState.DONE and inference.bundle_digest == result.bundle_digest


def _made_from(session: Session, results: Iterable[Result]) -> set[tuple[int, int, str]]:
    """Result and instance that it was made from, with the digest of the pixels that the instance then had."""
    rows = session.execute(
        select(ResultImage.result_id, ResultImage.instance_id, Inference.pixel_digest)
        .join(Inference, ResultImage.inference_id == Inference.id)
        .where(ResultImage.result_id.in_([result.id for result in results]))
    )
    return {(result_id, instance_id, digest) for result_id, instance_id, digest in rows}
