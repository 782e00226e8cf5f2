"""Planning of study results: when a study is complete and a bundle has computed it, the next version gets its row.

The row fixes which images the version is made from and mints every UID of its objects, once; whoever builds it, after
however many deaths, builds the same objects.
"""

from collections.abc import Iterable, Sequence

import structlog
from pydicom.uid import generate_uid
from sqlalchemy import ColumnElement, Select, and_, delete, or_, select, true, update
from sqlalchemy.orm import Session

from node.bundles.inferences import inference_priority, queue_inference
from node.bundles.registry import ActiveBundle
from node.intake.population import taken
from node.intake.routing import RouteReason
from node.ledger.ledger import now
from node.reading import settle
from node.results.withdrawal import withdraw_sent
from node.storage.removal import REMOVED, is_removed
from schemas.settings import AllowedWaits, ResultObject
from schemas.tables import Inference, Instance, Planned, Result, ResultImage, Series, StoredObject, Study, WorkState

log = structlog.get_logger()

#: Of an analysis or a result that will still be done or given up.
_WAITING = (WorkState.DUE, WorkState.LEASED)


def wanted_objects(per_destination: Iterable[Sequence[ResultObject]]) -> set[ResultObject]:
    """The kinds of objects to build: what any destination takes; SEG and SR always, they are the record."""
    wanted = {ResultObject.REPORT, ResultObject.SEGMENTATION}
    return wanted.union(*per_destination)


def plan_results(
    session: Session,
    bundles: Sequence[ActiveBundle],
    wanted: set[ResultObject],
    waits: AllowedWaits,
    limit: int = 100,
) -> int:
    """Plan the next versions for every study that is complete, of each bundle that is done; returns how many.

    A study is complete when its association was released or it has been quiet (study.result_due_at has come). A
    bundle's result waits for all images that its population includes to be done or given up under it, and for the
    version before to be made, so that each version knows its predecessor; it does not wait for another bundle. Given-up
    images are named in the result with their reason; a study without any computed image gets no result: its failures
    stand in the ledger.
    """
    planned = 0
    for bundle in bundles:
        _queue_missing(session, bundle, limit)
        for study in _ready(session, bundle, limit):
            images = _of_study(session, study, bundle)
            if any(inference is None or inference.state in _WAITING for _, inference in images):
                continue  # PostgreSQL: an image came after the query looked and before it held the study
            # Of a study whose every analysis failed this is the only thing that changes.
            study.changed_at = now()
            if not _is_said_already(session, study, bundle, images):
                if _compute_again(session, images):
                    continue
                planned += _plan_or_withdraw(session, study, bundle, images, wanted, waits)
            session.add(Planned(study_id=study.id, bundle_digest=bundle.digest))
    _finish(session, bundles, waits, limit)
    return planned


def is_complete() -> ColumnElement[bool]:
    """Condition on `Study`: its result is due.

    That it is due some time is said apart: PostgreSQL takes a third of all studies to be earlier than a moment that it
    does not know yet, and would read every image for them.
    """
    return and_(Study.result_due_at > 0, Study.result_due_at <= now())


def _ready(session: Session, bundle: ActiveBundle, limit: int) -> Sequence[Study]:
    """Complete studies in which nothing is left to wait for under this bundle, held until the transaction ends."""
    waiting = (
        _images(bundle)
        .where(Series.study_id == Study.id)
        .where(or_(Inference.id.is_(None), Inference.state.in_(_WAITING)))
    )
    unfinished = select(Result.id).where(
        Result.study_id == Study.id,
        Result.bundle_name == bundle.manifest.name,
        Result.state.in_(_WAITING),
    )
    dealt_with = select(Planned.id).where(Planned.study_id == Study.id, Planned.bundle_digest == bundle.digest)
    return session.scalars(
        select(Study)
        .where(is_complete(), ~dealt_with.correlate(Study).exists())
        .where(~waiting.correlate(Study).exists(), ~unfinished.correlate(Study).exists())
        .order_by(Study.result_due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def _images(bundle: ActiveBundle) -> Select[Instance, Inference]:
    """The images that the bundle's population includes, with their inference under it, which may be missing."""
    return (
        select(Instance, Inference)
        .join(Series, Instance.series_id == Series.id)
        .outerjoin(
            Inference,
            (Inference.pixel_digest == Instance.pixel_digest) & (Inference.bundle_digest == bundle.digest),
        )
        .where(taken(bundle.manifest.population))
    )


def _queue_missing(session: Session, bundle: ActiveBundle, limit: int) -> None:
    """Queue the images that came before this bundle was active, or whose study gets a new version since."""
    missing = session.execute(
        _images(bundle)
        .join(Study, Series.study_id == Study.id)
        .where(is_complete(), Inference.id.is_(None))
        .limit(limit)
    ).all()
    for instance, _ in missing:
        priority = inference_priority(instance.series.study)
        queue_inference(session, instance.pixel_digest, instance.file_sha256, bundle.digest, priority)
        if not instance.selected:
            # It was set aside while no active bundle took it.
            instance.selected, instance.route_reason = True, RouteReason.SELECTED
            instance.route_explanation = f"The image is a frontal chest radiograph ({instance.view})."


def _of_study(session: Session, study: Study, bundle: ActiveBundle) -> list[tuple[Instance, Inference]]:
    rows = session.execute(_images(bundle).where(Series.study_id == study.id).order_by(Instance.id)).all()
    return [(instance, inference) for instance, inference in rows]


def _plan_or_withdraw(
    session: Session,
    study: Study,
    bundle: ActiveBundle,
    images: list[tuple[Instance, Inference]],
    wanted: set[ResultObject],
    waits: AllowedWaits,
) -> bool:
    if any(inference.state == WorkState.DONE for _, inference in images):
        _plan(session, study, bundle, images, wanted)
        return True
    # The population includes no image any more, or none of what there is now could be analysed.
    _withdraw(session, study, waits, Result.bundle_name == bundle.manifest.name)
    return False


def _finish(session: Session, bundles: Sequence[ActiveBundle], waits: AllowedWaits, limit: int) -> None:
    """Of a study in which every active bundle's part is planned nothing more is due.

    Asked of the ledger and not only of what was planned just now: the bundle that was waited for may be retired.
    """
    parts = [
        select(Planned.id).where(Planned.study_id == Study.id, Planned.bundle_digest == each.digest).exists()
        for each in bundles
    ]
    if not parts:
        return
    finished = session.scalars(
        select(Study).where(is_complete(), *parts).limit(limit).with_for_update(skip_locked=True)
    ).all()
    digests = {each.digest for each in bundles}
    for study in finished:
        if not digests <= set(session.scalars(select(Planned.bundle_digest).where(Planned.study_id == study.id))):
            continue  # PostgreSQL: an image came after the query looked and before it held the study
        chest = select(Instance.id).join(Series).where(Series.study_id == study.id, Instance.view != "")
        nothing_left = session.scalar(chest.limit(1)) is None
        under_way = select(Result.id).where(Result.study_id == study.id, Result.state.in_(_WAITING))
        if nothing_left and session.scalar(under_way.limit(1)) is not None:
            continue  # a retired bundle's: once it is there it is withdrawn with the others
        session.execute(delete(Planned).where(Planned.study_id == study.id))
        study.result_due_at = None
        if nothing_left:
            # What a bundle that is retired by now said of it holds no longer either.
            _withdraw(session, study, waits, true())


def _versions(study: Study, bundle: ActiveBundle) -> Select[Result]:
    return select(Result).where(Result.study_id == study.id, Result.bundle_name == bundle.manifest.name)


def _is_said_already(
    session: Session, study: Study, bundle: ActiveBundle, images: list[tuple[Instance, Inference]]
) -> bool:
    """Whether the next version would be made from exactly what the last one was made from.

    One that was withdrawn is made again, also from the same: a correction may be taken back.
    """
    latest = session.scalars(_versions(study, bundle).order_by(Result.version.desc()).limit(1)).one_or_none()
    if latest is None or (latest.state == WorkState.DONE and not latest.current):
        return False
    made_from = [
        (instance.id, inference.id, instance.file_sha256, inference.state == WorkState.DONE)
        for instance, inference in images
    ]
    return made_from == _made_from(latest)


def _compute_again(session: Session, images: list[tuple[Instance, Inference]]) -> bool:
    """Make due what was computed once and removed by retention since; whether there is anything to wait for.

    An image whose file was removed too is given up, until somebody sends it again.
    """
    waits = False
    for instance, inference in images:
        if inference.state == WorkState.DONE and is_removed(inference):
            if instance.removed_at is None:
                priority = inference_priority(instance.series.study)
                queue_inference(session, instance.pixel_digest, instance.file_sha256, inference.bundle_digest, priority)
                waits = True
            else:
                inference.state, inference.error = WorkState.FAILED, REMOVED
    return waits


def _withdraw(session: Session, study: Study, waits: AllowedWaits, which: ColumnElement[bool]) -> None:
    """What was said of the study no longer holds, and nothing new can be said."""
    withdrawn = session.scalars(
        update(Result)
        .where(Result.study_id == study.id, Result.current, which)
        .values(current=False)
        .returning(Result.id)
    ).all()
    withdraw_sent(session, study, which)
    settle(session, study, waits)
    if withdrawn:
        log.warning(
            "no image of the study can be analysed any more; its results are withdrawn", study=study.study_instance_uid
        )


def _plan(
    session: Session,
    study: Study,
    bundle: ActiveBundle,
    images: list[tuple[Instance, Inference]],
    wanted: set[ResultObject],
) -> None:
    """Add the next version's rows."""
    name = bundle.manifest.name
    versions = _versions(study, bundle)
    latest = session.scalars(versions.order_by(Result.version.desc()).limit(1)).one_or_none()
    current = session.scalars(versions.where(Result.current)).one_or_none()
    result = Result(
        study_id=study.id,
        bundle_digest=bundle.digest,
        bundle_name=name,
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
    log.info("result planned", study=study.study_instance_uid, bundle=name, version=result.version, images=len(images))


def _made_from(result: Result) -> list[tuple[int, int, str, bool]]:
    """Instance, inference, file and whether it was computed, of each image that the result was planned with."""
    computed = {each.instance_id for each in result.objects}
    return [(i.instance_id, i.inference_id, i.file_sha256, i.instance_id in computed) for i in result.images]


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
    """Name `result` the current version of its study and bundle name, unless a later version was there before it."""
    later = select(Result.id).where(
        Result.study_id == result.study_id,
        Result.bundle_name == result.bundle_name,
        Result.version > result.version,
        Result.state == WorkState.DONE,
    )
    if session.scalar(later.limit(1)) is not None:
        return
    session.execute(
        update(Result)
        .where(Result.study_id == result.study_id, Result.bundle_name == result.bundle_name)
        .values(current=Result.id == result.id)
        .execution_options(synchronize_session=False)
    )
