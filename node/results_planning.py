"""Planning of study results: when a study is complete and its images are computed, the next version gets its row.

The row fixes which images the version is made from and mints every UID of its objects, once; whoever builds it, after
however many deaths, builds the same objects.
"""

from collections.abc import Iterable, Sequence

import structlog
from pydicom.uid import generate_uid
from sqlalchemy import ColumnElement, Select, or_, select, true, update
from sqlalchemy.orm import Session

from node.inferences import inference_priority, queue_inference
from node.ledger import now
from node.reading import settle
from schemas.settings import AllowedWaits, ResultObject
from schemas.tables import Inference, Instance, Result, ResultImage, Series, StoredObject, Study, WorkState

log = structlog.get_logger()


def wanted_objects(per_destination: Iterable[Sequence[ResultObject]]) -> set[ResultObject]:
    """The kinds of objects to build: what any destination takes; SEG and SR always, they are the record."""
    wanted = {ResultObject.REPORT, ResultObject.SEGMENTATION}
    return wanted.union(*per_destination)


def plan_results(
    session: Session, bundle_digest: str, wanted: set[ResultObject], waits: AllowedWaits, limit: int = 100
) -> int:
    """Plan the next version of every study that is complete and computed; returns how many were planned.

    A study is complete when its association was released or it has been quiet (study.result_due_at has come). It
    waits for all its selected images to be done or given up under this bundle, and for the version before to be made,
    so that each version knows its predecessor. Given-up images are named in the result with their reason; a study
    without any computed image gets no result: its failures stand in the ledger.
    """
    complete = Study.result_due_at <= now()
    _queue_missing(session, complete, bundle_digest, limit)
    waiting = (
        _selected_images(bundle_digest)
        .where(Series.study_id == Study.id)
        .where(or_(Inference.id.is_(None), Inference.state.in_([WorkState.DUE, WorkState.LEASED])))
    )
    unfinished = select(Result.id).where(
        Result.study_id == Study.id,
        Result.bundle_digest == bundle_digest,
        Result.state.in_([WorkState.DUE, WorkState.LEASED]),
    )
    ready = session.scalars(
        select(Study)
        .where(complete, ~waiting.correlate(Study).exists(), ~unfinished.correlate(Study).exists())
        .order_by(Study.result_due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    planned = 0
    for study in ready:
        study.result_due_at = None
        # Of a study whose every analysis failed this is the only thing that changes.
        study.changed_at = now()
        rows = session.execute(
            _selected_images(bundle_digest).where(Series.study_id == study.id).order_by(Instance.id)
        ).all()
        images = [(instance, inference) for instance, inference in rows]
        if any(inference.state == WorkState.DONE for _, inference in images):
            planned += _plan(session, study, bundle_digest, images, wanted)
        else:
            # No image is selected any more, or none of what there is now could be analysed under this bundle.
            which = Result.bundle_digest == bundle_digest if images else true()
            _withdraw(session, study, waits, which)
    return planned


def _selected_images(bundle_digest: str) -> Select[Instance, Inference]:
    """Selected images with their inference under this bundle, which may be missing."""
    return (
        select(Instance, Inference)
        .join(Series, Instance.series_id == Series.id)
        .outerjoin(
            Inference,
            (Inference.pixel_digest == Instance.pixel_digest) & (Inference.bundle_digest == bundle_digest),
        )
        .where(Instance.selected)
    )


def _queue_missing(session: Session, complete: ColumnElement[bool], bundle_digest: str, limit: int) -> None:
    """Queue the images that came before this bundle was served, or whose study gets a new version since."""
    missing = session.execute(
        _selected_images(bundle_digest)
        .join(Study, Series.study_id == Study.id)
        .where(complete, Inference.id.is_(None))
        .limit(limit)
    ).all()
    for instance, _ in missing:
        priority = inference_priority(instance.series.study)
        queue_inference(session, instance.pixel_digest, instance.file_sha256, bundle_digest, priority)


def _withdraw(session: Session, study: Study, waits: AllowedWaits, which: ColumnElement[bool]) -> None:
    """What was said of the study no longer holds, and nothing new can be said."""
    withdrawn = session.scalars(
        update(Result)
        .where(Result.study_id == study.id, Result.current, which)
        .values(current=False)
        .returning(Result.id)
    ).all()
    settle(session, study, waits)
    if withdrawn:
        log.warning(
            "no image of the study can be analysed any more; its results are withdrawn", study=study.study_instance_uid
        )


def _plan(
    session: Session,
    study: Study,
    bundle_digest: str,
    images: list[tuple[Instance, Inference]],
    wanted: set[ResultObject],
) -> bool:
    """Add the next version's rows, unless it would be made from exactly what the last one was made from."""
    versions = select(Result).where(Result.study_id == study.id, Result.bundle_digest == bundle_digest)
    latest = session.scalars(versions.order_by(Result.version.desc()).limit(1)).one_or_none()
    current = session.scalars(versions.where(Result.current)).one_or_none()
    made_from = [(instance.id, inference.id, instance.file_sha256) for instance, inference in images]
    if latest and made_from == [(i.instance_id, i.inference_id, i.file_sha256) for i in latest.images]:
        return False
    result = Result(
        study_id=study.id,
        bundle_digest=bundle_digest,
        version=latest.version + 1 if latest else 1,
        predecessor_id=current.id if current else None,
        priority=min(inference.priority for _, inference in images),
        due_at=now(),
        created_at=now(),
    )
    session.add(result)
    for instance, inference in images:
        result.images.append(
            ResultImage(instance_id=instance.id, inference_id=inference.id, file_sha256=instance.file_sha256)
        )
        for kind in (ResultObject.SEGMENTATION, ResultObject.SECONDARY_CAPTURE):
            if kind in wanted and inference.state == WorkState.DONE:
                result.objects.append(_mint(kind, instance.id))
    result.objects.append(_mint(ResultObject.REPORT, None))
    log.info("result planned", study=study.study_instance_uid, version=result.version, images=len(images))
    return True


def _mint(kind: ResultObject, instance_id: int | None) -> StoredObject:
    # Each object in a series of its own: viewers open the last instance of a series only (OHIF), and a new version
    # must not join the series of the old one.
    return StoredObject(
        kind=kind,
        instance_id=instance_id,
        sop_instance_uid=generate_uid(prefix=None),
        series_instance_uid=generate_uid(prefix=None),
    )


def make_current(session: Session, result: Result) -> None:
    """Name `result` the current version of its study and bundle."""
    session.execute(
        update(Result)
        .where(Result.study_id == result.study_id, Result.bundle_digest == result.bundle_digest)
        .values(current=Result.id == result.id)
        .execution_options(synchronize_session=False)
    )
