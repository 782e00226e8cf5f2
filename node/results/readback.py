"""Reading results back from where they were delivered: the proof that they are there."""

from pydicom import Dataset, dcmread
from sqlalchemy import select

from node.delivery.stow import dicomweb_client
from node.ledger.ledger import Ledger
from node.storage.stores import open_store
from schemas.errors import DeliveryError
from schemas.settings import DicomDestination, DicomwebDestination, FolderDestination, OrthancDestination, Settings
from schemas.tables import Delivery, Result, StoredObject, Study, WorkState


def read_back(ledger: Ledger, settings: Settings, study_instance_uid: str) -> int:
    """Fetch every object of the study's current results from every destination that took it, and compare it.

    Returns the number of objects. Raises DeliveryError that names the first one that is missing or differs.
    """
    store = open_store(settings)
    # What went out by C-STORE comes back by C-MOVE alone, which calls us.
    readable = [each for each in settings.destinations if not isinstance(each, DicomDestination)]
    destinations = {destination.name: destination for destination in readable}
    with ledger.read() as session:
        delivered = session.execute(
            select(Delivery.destination, StoredObject)
            .join(StoredObject, Delivery.object_id == StoredObject.id)
            .join(Result, StoredObject.result_id == Result.id)
            .join(Study, Result.study_id == Study.id)
            .where(
                Study.study_instance_uid == study_instance_uid,
                Result.current,
                Delivery.state == WorkState.DONE,
                Delivery.destination.in_(destinations),
            )
        ).all()
    for name, stored in delivered:
        assert stored.sha256
        with store.file(stored.sha256) as path:
            sent = dcmread(path)
        found = _fetch(destinations[name], study_instance_uid, stored)
        if found != sent:
            raise DeliveryError(f"{name} returns another object than was sent as {stored.sop_instance_uid}.")
    return len(delivered)


def _fetch(
    destination: OrthancDestination | DicomwebDestination | FolderDestination,
    study_instance_uid: str,
    stored: StoredObject,
) -> Dataset:
    if isinstance(destination, FolderDestination):
        folder = destination.path / study_instance_uid / stored.series_instance_uid
        return dcmread(folder / f"{stored.sop_instance_uid}.dcm")
    return dicomweb_client(destination).retrieve_instance(
        study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
    )
