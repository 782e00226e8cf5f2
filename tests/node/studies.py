"""Studies on a ledger without any file: for tests of the worklist."""

from hashlib import sha256

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.intake.study_description import searchable
from node.ledger.ledger import Ledger, now
from node.reading import lock_study, settle, start_waiting
from schemas.codes import Device, Finding, TubePosition
from schemas.result import (
    BundleReference,
    EngineReference,
    FindingResult,
    ImageResult,
    OrderPriority,
    StudyResult,
    TubeResult,
)
from schemas.settings import AllowedWaits
from schemas.tables import Inference, Instance, ReadState, Result, ResultImage, Series, Study, WorkState

from node.triage import malpositioned_tube, study_urgency, urgency  # isort: skip

WAITS = AllowedWaits()


def add_study(
    ledger: Ledger,
    uid: str,
    *,
    waited: float = 0.0,
    listed: bool = True,
    order: OrderPriority = OrderPriority.ROUTINE,
    name: str = "Test^Patient",
) -> None:
    """A study that came `waited` seconds ago and was not analysed yet."""

    def change(session: Session) -> None:
        study = Study(
            study_instance_uid=uid,
            patient_name=name,
            patient_id=f"ID-{uid}",
            search_text=searchable(f"{name} ID-{uid}"),
            first_received_at=now(),
            last_received_at=now(),
            changed_at=now(),
            order_priority=order,
            urgency=study_urgency(urgency([]), order),
            read_state=ReadState.NEW,
        )
        session.add(study)
        if listed:
            session.flush()
            start_waiting(session, study, WAITS)
            assert study.waiting_since is not None and study.due_at is not None
            study.waiting_since -= waited
            study.due_at -= waited

    ledger.write(change)


def image(present: set[Finding], position: TubePosition | None, uid: str = "1.2") -> ImageResult:
    """What an image shows: these findings and, unless None, a tube in this position."""
    return ImageResult(
        sop_instance_uid=uid,
        rows=100,
        columns=80,
        segments=[],
        findings=[
            FindingResult(
                finding=finding,
                score=0.9 if finding in present else 0.1,
                operating_point=0.5,
                calibrated=False,
                present=finding in present,
            )
            for finding in Finding
        ],
        tubes=[
            TubeResult(
                device=Device.ENDOTRACHEAL_TUBE,
                present=position is not None,
                score=0.9,
                operating_point=0.5,
                calibrated=False,
                position=position,
            )
        ],
    )


def document(
    uid: str, position: TubePosition | None, present: set[Finding], version: int = 1, bundle: str = "test"
) -> StudyResult:
    """A result of one image with these findings and, unless None, a tube in this position."""
    shown = image(present, position, f"{uid}.1")
    return StudyResult(
        study_instance_uid=uid,
        version=version,
        bundle=BundleReference(name=bundle, version="1", digest=bundle_digest(bundle), cleared_for_clinical_use=False),
        engine=EngineReference(device="cpu", precision="float32", software_version="0"),
        images=[shown],
        urgency=urgency([shown]),
        malpositioned_tube=malpositioned_tube([shown]),
        notice="Not for clinical use",
    )


def bundle_digest(name: str, version: str = "1") -> str:
    """Digest of the bundle, as tests/node/bundles.py registers it."""
    return sha256(f"{name} {version}".encode()).hexdigest()


def add_image(
    session: Session,
    study: Study,
    state: WorkState,
    error: str = "",
    pixels: str = "p",
    bundle: str = "test",
    version: str = "1",
) -> ResultImage:
    """The image of the study, UID.1, with its inference; new pixels take the place of the old ones."""
    uid = study.study_instance_uid
    digest = sha256(f"{uid} {pixels}".encode()).hexdigest()
    instance = session.scalar(select(Instance).where(Instance.sop_instance_uid == f"{uid}.1"))
    if instance is None:
        series = Series(study_id=study.id, series_instance_uid=f"{uid}.0")
        instance = Instance(series=series, sop_instance_uid=f"{uid}.1", sop_class_uid="1.2", transfer_syntax_uid="1.2")
        session.add_all([series, instance])
    instance.file_sha256 = instance.dataset_digest = instance.pixel_digest = instance.header_digest = digest
    instance.received_at = now()
    instance.selected, instance.route_reason, instance.route_explanation = (
        True,
        "selected",
        "It is a frontal chest film.",
    )
    key = {"pixel_digest": digest, "bundle_digest": bundle_digest(bundle, version)}
    inference = session.scalar(select(Inference).filter_by(**key))
    if inference is None:
        inference = Inference(**key, file_sha256=digest, due_at=now(), created_at=now())
        session.add(inference)
    inference.state, inference.error, inference.finished_at = state, error, now()
    session.flush()
    return ResultImage(instance_id=instance.id, inference_id=inference.id, file_sha256=digest)


def commit_result(ledger: Ledger, made: StudyResult) -> None:
    """Commit the result as the worker does."""

    def change(session: Session) -> None:
        study = lock_study(session, made.study_instance_uid)
        assert study is not None
        name = made.bundle.name
        for before in session.scalars(select(Result).where(Result.study_id == study.id, Result.bundle_name == name)):
            before.current = False
        session.add(
            Result(
                study_id=study.id,
                bundle_digest=made.bundle.digest,
                bundle_name=name,
                version=made.version,
                current=True,
                document=made.model_dump_json(),
                urgency=made.urgency,
                state=WorkState.DONE,
                due_at=now(),
                created_at=now(),
                finished_at=now(),
                images=[add_image(session, study, WorkState.DONE, bundle=name)],
            )
        )
        session.flush()
        settle(session, study, WAITS)

    ledger.write(change)
