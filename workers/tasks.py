"""What an inference worker does: analyse due images, plan and build due study results, draw what the page shows."""

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore
from time import perf_counter

import structlog
from pydicom.uid import Comprehensive3DSRStorage, generate_uid
from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session

from node.bundles.registry import active_bundles, manifest_of
from node.delivery.worker import RANK
from node.ledger.leases import Commit, Lease, claim, claimable, complete, perform
from node.ledger.ledger import Ledger, now
from node.monitoring.metrics import FORWARD_SECONDS, READ_SECONDS
from node.queue import Publisher, delivery_queue, stopping
from node.reading import lock_study, settle
from node.results.planning import make_current, plan_results, wanted_objects
from node.storage.object_store import ObjectStore
from schemas.bundle import Manifest
from schemas.identity import software_version
from schemas.result import EngineReference, FailedImage
from schemas.settings import ResultObject, Settings
from schemas.tables import (
    Bundle,
    Delivery,
    Inference,
    Instance,
    Picture,
    Result,
    ResultImage,
    Study,
    Tracking,
    WorkState,
)
from workers.assembly import Assembly, AssemblyRequest, ImageRequest, assemble
from workers.pictures import PicturesRequest, draw_pictures
from workers.preparation import Wanted
from workers.processes import Processes
from workers.results.source import ImageIdentity, Predecessor, ReportIdentity, keys_of
from workers.serving import Served, Serving
from workers.shared_reads import SharedReads
from workers.withdrawals import Withdrawals

log = structlog.get_logger()

#: A picture that has waited so long goes before analyses of the same urgency, so that endless load cannot starve it.
_PATIENCE_SECONDS = 10.0
#: Why an image is not in a result that was planned before somebody had it analysed again.
_TAKEN_UP_AGAIN = "It was given up and is analysed again; the next version of the result has it."
#: Placed images that are kept for other bundles, per thread that analyses.
_KEPT_PER_THREAD = 4


class Tasks:
    """What an inference worker does with due rows.

    Images are analysed under the bundles that are served here; results and pictures need no engine, and are made for
    every bundle that the registry knows.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        store: ObjectStore,
        publisher: Publisher,
        processes: Processes,
        serving: Serving,
    ) -> None:
        self._settings = settings
        self._work = settings.work
        self._ledger = ledger
        self._store = store
        self._publisher = publisher
        self._processes = processes
        self._serving = serving
        self._reads = SharedReads(processes, capacity=_KEPT_PER_THREAD * settings.worker.threads)
        self._waits = settings.triage.allowed_minutes
        self._wanted = wanted_objects(destination.objects for destination in settings.destinations)
        self._withdrawals = Withdrawals(settings, ledger, store, publisher)
        # At most half of the threads and processes draw; the rest are there for the next study.
        self._drawing = BoundedSemaphore(max(1, min(settings.worker.threads, settings.worker.processes) // 2))

    def work(self) -> None:
        """Build due results, draw due pictures and analyse due images until nothing is due or the worker stops.

        Results first: a study that is computed must not wait behind a thousand priors that are not. Pictures only when
        no analysis is as urgent (`_picture_comes_first`).
        """
        while not stopping.is_set() and (
            self._build_one() or self._withdrawals.send_one() or self._draw_one() or self._analyse_one()
        ):
            pass

    def _build_one(self) -> bool:
        self._ledger.write(lambda session: plan_results(session, active_bundles(session), self._wanted, self._waits))
        known = Result.bundle_digest.in_(select(Bundle.digest))
        lease = claim(self._ledger, Result, self._work, self._work.attempts, known)
        if lease is None:
            return False
        perform(self._ledger, lease, self._work, self._work.attempts, partial(self._build, lease))
        for destination in self._settings.destinations:
            self._publisher.hint(delivery_queue(destination.name))
        return True

    def _draw_one(self) -> bool:
        if not self._drawing.acquire(blocking=False):
            return False
        try:
            known = Picture.bundle_digest.in_(select(Bundle.digest))
            lease = claim(self._ledger, Picture, self._work, self._work.attempts, known, self._picture_comes_first())
            if lease is None:
                return False
            perform(self._ledger, lease, self._work, self._work.attempts, partial(self._draw, lease))
            return True
        finally:
            self._drawing.release()

    def _picture_comes_first(self) -> ColumnElement[bool]:
        """Condition: no due analysis is more urgent than the picture, nor as urgent unless the picture has waited."""
        most_urgent = (
            select(Inference.priority)
            .where(claimable(Inference, self._work.attempts), Inference.bundle_digest.in_(self._serving.digests()))
            .order_by(Inference.priority)
            .limit(1)
            .scalar_subquery()
        )
        waited = Picture.due_at <= now() - _PATIENCE_SECONDS
        return or_(most_urgent.is_(None), Picture.priority < most_urgent, and_(Picture.priority == most_urgent, waited))

    def _analyse_one(self) -> bool:
        with self._serving.hold() as served:
            own = Inference.bundle_digest.in_(list(served))
            lease = claim(self._ledger, Inference, self._work, self._work.attempts, own) if served else None
            if lease is None:
                return False
            perform(self._ledger, lease, self._work, self._work.attempts, partial(self._analyse, lease, served))
            return True

    def _analyse(self, lease: Lease, served: Mapping[str, Served]) -> Commit:
        with self._ledger.read() as session:
            row = session.get_one(Inference, lease.row_id)
            # Under other bundles the same image comes next, or is in another thread at this moment: it is read once.
            others = session.scalars(
                select(Inference.bundle_digest).where(
                    Inference.pixel_digest == row.pixel_digest,
                    Inference.bundle_digest.in_(list(served)),
                    Inference.id != row.id,
                    Inference.state.in_([WorkState.DUE, WorkState.LEASED]),
                )
            ).all()
        bundle = served[row.bundle_digest]
        started = perf_counter()
        with self._store.file(row.file_sha256) as path:
            placed = self._reads.place(
                row.pixel_digest,
                path,
                Wanted.by(bundle.manifest),
                [Wanted.by(served[digest].manifest) for digest in others],
            )
        prepared = perf_counter()
        computed = bundle.engine.run(placed.image.pixels, row.priority, placed.image.detail)
        ran = perf_counter()
        output_sha256 = self._store.put(computed.output.to_bytes())
        FORWARD_SECONDS.observe(ran - prepared)
        if placed.read_for_this:
            READ_SECONDS.observe(prepared - started)

        return lambda session: complete(
            session,
            lease,
            output_sha256=output_sha256,
            engine_name=computed.by.name,
            engine_device=computed.by.device,
            engine_precision=computed.by.precision,
            software_version=software_version(),
            read_ms=(prepared - started) * 1000 if placed.read_for_this else None,
            forward_ms=(ran - prepared) * 1000,
        )

    def _build(self, lease: Lease) -> Commit:
        # What lies on another host is fetched before the transaction.
        with self._ledger.read() as session:
            images = session.get_one(Result, lease.row_id).images
            digests = {each.inference.output_sha256 for each in images if each.inference.output_sha256}
            outputs = {sha256: self._store.get(sha256) for sha256 in digests}
        with ExitStack() as held:
            files = {
                each.file_sha256: held.enter_context(self._store.file(each.file_sha256))
                for each in images
                if each.inference.output_sha256
            }
            request = self._ledger.write(lambda session: self._request(session, lease.row_id, files, outputs))
            built = self._processes.call_for(len(request.images), assemble, request)
        stored = {each.sop_instance_uid: self._store.put(each.content) for each in built.objects}
        return lambda session: self._commit(session, lease, built, stored)

    def _request(
        self, session: Session, result_id: int, files: Mapping[str, Path], outputs: Mapping[str, bytes]
    ) -> AssemblyRequest:
        result = session.get_one(Result, result_id)
        # As it was planned: an image that was given up may since have been taken up again, for the next version.
        minted = {each.instance_id for each in result.objects}
        done = [image for image in result.images if image.instance_id in minted]
        first = done[0].inference
        assert first.engine_name and first.engine_device and first.engine_precision and first.software_version
        predecessor = session.get(Result, result.predecessor_id) if result.predecessor_id else None
        report = next(each for each in result.objects if each.kind == ResultObject.REPORT)
        manifest = manifest_of(session, result.bundle_digest)
        return AssemblyRequest(
            study_instance_uid=result.study.study_instance_uid,
            version=result.version,
            manifest=manifest,
            bundle_digest=result.bundle_digest,
            engine=EngineReference(
                name=first.engine_name,
                device=first.engine_device,
                precision=first.engine_precision,
                software_version=first.software_version,
            ),
            images=[
                _image(session, result, image, manifest, files[image.file_sha256], outputs[_output_of(image)])
                for image in done
            ],
            failed=[
                FailedImage(
                    sop_instance_uid=image.instance.sop_instance_uid, reason=image.inference.error or _TAKEN_UP_AGAIN
                )
                for image in result.images
                if image.instance_id not in minted
            ],
            report=ReportIdentity(
                report.sop_instance_uid, report.series_instance_uid, self._predecessor(predecessor, result)
            ),
            content_time=datetime.fromtimestamp(result.created_at, UTC).replace(microsecond=0),
            geometry=self._settings.results.segmentation_geometry,
            secondary_capture=any(each.kind == ResultObject.SECONDARY_CAPTURE for each in result.objects),
        )

    def _predecessor(self, predecessor: Result | None, result: Result) -> Predecessor | None:
        if predecessor is None:
            return None
        report = next(each for each in predecessor.objects if each.kind == ResultObject.REPORT)
        return Predecessor(
            Comprehensive3DSRStorage,
            report.sop_instance_uid,
            result.study.study_instance_uid,
            report.series_instance_uid,
        )

    def _commit(self, session: Session, lease: Lease, built: Assembly, stored: dict[str, str]) -> None:
        """The first commit under a valid lease fixes the bytes, names the current version and makes deliveries due."""
        document = built.document
        # The study before its result, as everywhere: who locks in another order waits for each other for ever.
        study = lock_study(session, document.study_instance_uid)
        assert study is not None
        complete(session, lease, document=document.model_dump_json(), urgency=document.urgency)
        result = session.get_one(Result, lease.row_id, populate_existing=True)
        make_current(session, result)
        settle(session, study, self._waits)
        objects = {each.sop_instance_uid: each for each in result.objects}
        for each in built.objects:
            row = objects[each.sop_instance_uid]
            row.sop_class_uid = each.sop_class_uid
            row.sha256 = stored[each.sop_instance_uid]
            row.size_bytes = len(each.content)
            for destination in self._settings.destinations:
                if each.kind in destination.objects:
                    session.add(
                        Delivery(
                            object_id=row.id,
                            result_id=result.id,
                            destination=destination.name,
                            rank=RANK[each.kind],
                            priority=result.priority,
                            due_at=now(),
                            created_at=now(),
                        )
                    )
        drawable = {image.sop_instance_uid for image in document.images}
        session.add_all(
            Picture(
                result_image_id=image.id,
                bundle_digest=result.bundle_digest,
                priority=result.priority,
                due_at=now(),
                created_at=now(),
            )
            for image in result.images
            if image.instance.sop_instance_uid in drawable
        )
        log.info(
            "result committed",
            study=document.study_instance_uid,
            bundle=document.bundle.name,
            version=document.version,
            urgency=document.urgency,
            malpositioned_tube=document.malpositioned_tube,
        )

    def _draw(self, lease: Lease) -> Commit:
        with self._ledger.read() as session:
            image = session.get_one(Picture, lease.row_id).result_image
            file_sha256, output_sha256 = image.file_sha256, image.inference.output_sha256
            result = session.get_one(Result, image.result_id)
            study_id, manifest = result.study_id, manifest_of(session, result.bundle_digest)
        assert output_sha256
        output = self._store.get(output_sha256)
        with self._store.file(file_sha256) as path:
            drawn = self._processes.call(draw_pictures, PicturesRequest(path, output, manifest))
        sha256 = self._store.put(drawn)

        def commit(session: Session) -> None:
            complete(session, lease, sha256=sha256)
            session.execute(update(Study).where(Study.id == study_id).values(changed_at=now()))

        return commit


def _image(
    session: Session, result: Result, image: ResultImage, manifest: Manifest, path: Path, output: bytes
) -> ImageRequest:
    objects = {each.kind: each for each in result.objects if each.instance_id == image.instance_id}
    segmentation = objects[ResultObject.SEGMENTATION]
    # Where no capture was minted, none is built.
    capture = objects.get(ResultObject.SECONDARY_CAPTURE, segmentation)
    return ImageRequest(
        path=path,
        sop_instance_uid=image.instance.sop_instance_uid,
        output=output,
        identity=ImageIdentity(
            segmentation_sop_instance_uid=segmentation.sop_instance_uid,
            segmentation_series_instance_uid=segmentation.series_instance_uid,
            secondary_capture_sop_instance_uid=capture.sop_instance_uid,
            secondary_capture_series_instance_uid=capture.series_instance_uid,
            tracking_uids=_tracking_uids(session, image.instance, result.bundle_name, manifest),
        ),
    )


def _output_of(image: ResultImage) -> str:
    assert image.inference.output_sha256  # only images that are done have objects
    return image.inference.output_sha256


def _tracking_uids(session: Session, instance: Instance, bundle_name: str, manifest: Manifest) -> dict[str, str]:
    """The tracking UIDs of what the bundle sees on the image, minted on first use and kept for all its versions."""
    minted = select(Tracking).where(Tracking.instance_id == instance.id, Tracking.bundle_name == bundle_name)
    known = {row.key: row.tracking_uid for row in session.scalars(minted)}
    for key in keys_of(manifest):
        if key not in known:
            known[key] = generate_uid(prefix=None)
            session.add(Tracking(instance_id=instance.id, bundle_name=bundle_name, key=key, tracking_uid=known[key]))
    return known
