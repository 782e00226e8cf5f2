"""How far the images of studies are: analysed, under way, or not to be analysed, and why.

A result speaks for an image only while the image is what the result was made from: the same UID may come again with
other pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from schemas.result import StudyResult
from schemas.tables import Inference, Instance, Result, ResultImage, Series, WorkState


class Analysis(StrEnum):
    #: The current result speaks for it.
    DONE = "done"
    #: Under way, or its result is being made.
    PENDING = "pending"
    #: Selected, and given up.
    FAILED = "failed"
    #: Routing set it aside.
    SET_ASIDE = "set_aside"


@dataclass(frozen=True)
class ImageState:
    instance: Instance
    analysis: Analysis
    #: Why it failed or was set aside; "" otherwise.
    reason: str = ""


def image_states(session: Session, results: dict[int, Result | None]) -> dict[int, list[ImageState]]:
    """The instances of studies, in the order in which they came.

    Parameters
    ----------
    results
        Study key -> its current result, None without one.
    """
    made_from = _made_from(session, [result for result in results.values() if result])
    failed = {key: _failed(result) for key, result in results.items() if result}
    states: dict[int, list[ImageState]] = {key: [] for key in results}
    seen: set[int] = set()
    rows = session.execute(
        select(Series.study_id, Instance, Inference)
        .join(Instance, Instance.series_id == Series.id)
        .outerjoin(Inference, and_(Instance.selected, Inference.pixel_digest == Instance.pixel_digest))
        .where(Series.study_id.in_(list(results)))
        # Of several bundles' inferences the newest counts.
        .order_by(Instance.id, Inference.id.desc())
    )
    for study_id, instance, inference in rows:
        if instance.id not in seen:
            seen.add(instance.id)
            states[study_id].append(_state(instance, inference, made_from, failed.get(study_id, {})))
    return states


def _state(
    instance: Instance, inference: Inference | None, made_from: set[tuple[int, str]], failed: dict[str, str]
) -> ImageState:
    if not instance.selected:
        return ImageState(instance, Analysis.SET_ASIDE, instance.route_explanation)
    if inference is not None and inference.state == WorkState.FAILED:
        return ImageState(instance, Analysis.FAILED, inference.error)
    if (instance.id, instance.pixel_digest) not in made_from:
        return ImageState(instance, Analysis.PENDING)
    if instance.sop_instance_uid in failed:
        return ImageState(instance, Analysis.FAILED, failed[instance.sop_instance_uid])
    return ImageState(instance, Analysis.DONE)


def _made_from(session: Session, results: Iterable[Result]) -> set[tuple[int, str]]:
    """Instances that the results were made from, each with the digest of the pixels that it then had."""
    rows = session.execute(
        select(ResultImage.instance_id, Inference.pixel_digest)
        .join(Inference, ResultImage.inference_id == Inference.id)
        .where(ResultImage.result_id.in_([result.id for result in results]))
    )
    return {(instance_id, digest) for instance_id, digest in rows}


def _failed(result: Result) -> dict[str, str]:
    if result.document is None:
        return {}
    return {each.sop_instance_uid: each.reason for each in StudyResult.model_validate_json(result.document).failed}
