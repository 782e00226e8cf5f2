"""Results that are ready to be delivered, without anything having been analysed: tiny objects in store and ledger."""

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.delivery.parcel import Parcel
from node.delivery.worker import RANK
from node.doctor.trial_object import as_parcel, trial_dataset
from node.ledger.ledger import Ledger, now
from node.storage.object_store import FolderObjectStore
from schemas.settings import ResultObject
from schemas.tables import Delivery, Result, StoredObject, Study, WorkState


def tiny_object(study_instance_uid: str = "") -> Dataset:
    """A Secondary Capture of 8 x 8 pixels."""
    return trial_dataset(study_instance_uid or generate_uid(prefix=None))


def tiny_parcel() -> Parcel:
    return as_parcel(tiny_object())


def add_result(
    ledger: Ledger,
    store: FolderObjectStore,
    destinations: Sequence[str],
    kinds: Sequence[ResultObject] = (ResultObject.REPORT,),
    study_instance_uid: str = "",
    version: int = 1,
    age_seconds: float = 0.0,
) -> str:
    """Commit a result with a tiny object of each kind, due at each destination; returns its Study Instance UID."""
    uid = study_instance_uid or str(generate_uid(prefix=None))
    objects = {kind: tiny_object(uid) for kind in kinds}
    digests = {kind: store.put(as_parcel(each).content) for kind, each in objects.items()}

    def change(session: Session) -> None:
        study = session.scalars(select(Study).where(Study.study_instance_uid == uid)).one_or_none()
        if study is None:
            study = Study(study_instance_uid=uid, first_received_at=now(), last_received_at=now(), changed_at=now())
        result = Result(
            study=study,
            bundle_digest="b",
            bundle_name="b",
            version=version,
            state=WorkState.DONE,
            due_at=now(),
            created_at=now(),
        )
        session.add(result)
        session.flush()
        for kind, header in objects.items():
            stored = StoredObject(
                result_id=result.id,
                kind=kind,
                sop_class_uid=header.SOPClassUID,
                sop_instance_uid=header.SOPInstanceUID,
                series_instance_uid=header.SeriesInstanceUID,
                sha256=digests[kind],
            )
            session.add(stored)
            session.flush()
            for name in destinations:
                session.add(
                    Delivery(
                        object_id=stored.id,
                        result_id=result.id,
                        destination=name,
                        rank=RANK[kind],
                        due_at=now() - age_seconds,
                        created_at=now() - age_seconds,
                    )
                )

    ledger.write(change)
    return uid


def deliveries(ledger: Ledger, destination: str) -> list[Delivery]:
    """Its deliveries, the oldest first."""
    with ledger.read() as session:
        return list(session.scalars(select(Delivery).where(Delivery.destination == destination).order_by(Delivery.id)))
