"""Studies on a ledger without any file: for tests of the worklist."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.ledger import Ledger, now
from node.reading import result_committed, start_waiting
from node.study_description import searchable
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
from schemas.tables import Result, Study, WorkState

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
        )
        session.add(study)
        if listed:
            start_waiting(study, WAITS)
            session.flush()
            study.waiting_since = Study.waiting_since - waited
            study.due_at = Study.due_at - waited

    ledger.write(change)


def document(uid: str, position: TubePosition | None, present: set[Finding], version: int = 1) -> StudyResult:
    """A result of one image with these findings and, unless None, a tube in this position."""
    image = ImageResult(
        sop_instance_uid=f"{uid}.1",
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
    return StudyResult(
        study_instance_uid=uid,
        version=version,
        bundle=BundleReference(name="test", version="1", digest="d", cleared_for_clinical_use=False),
        engine=EngineReference(device="cpu", precision="float32", software_version="0"),
        images=[image],
        urgency=urgency([image]),
        malpositioned_tube=malpositioned_tube([image]),
        notice="Not for clinical use",
    )


def commit_result(ledger: Ledger, made: StudyResult) -> None:
    """Commit the result as the worker does."""

    def change(session: Session) -> None:
        study = session.scalars(select(Study).where(Study.study_instance_uid == made.study_instance_uid)).one()
        for before in session.scalars(select(Result).where(Result.study_id == study.id)):
            before.current = False
        session.add(
            Result(
                study_id=study.id,
                bundle_digest="d",
                version=made.version,
                current=True,
                document=made.model_dump_json(),
                urgency=made.urgency,
                state=WorkState.DONE,
                due_at=now(),
                created_at=now(),
                finished_at=now(),
            )
        )
        result_committed(session, study, made, WAITS)

    ledger.write(change)
