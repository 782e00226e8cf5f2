"""Asking a PACS whether it holds instances: QIDO-RS, or C-FIND where it speaks DIMSE alone.

What the answer does not name as held is not proven.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import requests
from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]

from node.delivery.dicom import limits_of, peer_of
from node.delivery.stow import dicomweb_client
from node.network.association import NoAssociationError, associated
from schemas.errors import CommitmentError, SettingsError
from schemas.settings import Destination, DicomDestination, DicomwebDestination, OrthancDestination

_SUCCESS = 0x0000
_NOT_FOUND = 404


@dataclass(frozen=True)
class ReceivedInstance:
    """An instance as this node received it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def held_by(destination: Destination, instances: Sequence[ReceivedInstance]) -> set[str]:
    """SOP Instance UIDs of those that the destination says it holds. Raises CommitmentError when it cannot be asked."""
    match destination:
        case OrthancDestination() | DicomwebDestination():
            return {each.sop_instance_uid for each in instances if _found_by_qido(destination, each)}
        case DicomDestination():
            return _found_by_find(destination, instances)
        case _:
            raise CommitmentError(f"Destination {destination.name} cannot be asked what it holds.")


def _found_by_qido(destination: OrthancDestination | DicomwebDestination, instance: ReceivedInstance) -> bool:
    """Search for Instances of its series (PS3.18 section 10.6)."""
    try:
        found = dicomweb_client(destination).search_for_instances(
            instance.study_instance_uid,
            instance.series_instance_uid,
            search_filters={"SOPInstanceUID": instance.sop_instance_uid},
        )
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code == _NOT_FOUND:
            return False
        raise CommitmentError(f"{destination.url}: {error}") from error
    except (requests.RequestException, ValueError) as error:
        raise CommitmentError(f"{destination.url}: {error}") from error
    return any(_matches(Dataset.from_json(each), instance) for each in found)


def _found_by_find(destination: DicomDestination, instances: Sequence[ReceivedInstance]) -> set[str]:
    """C-FIND at the level IMAGE of the Study Root model (PS3.4 C.6.2)."""
    model = StudyRootQueryRetrieveInformationModelFind
    held = set()
    try:
        with associated(peer_of(destination), [build_context(model)], limits_of(destination)) as association:
            for instance in instances:
                for status, found in association.send_c_find(_identifier(instance), model):
                    if "Status" not in status or (status.Status != _SUCCESS and status.Status >> 8 != 0xFF):
                        said = f"0x{status.Status:04X}" if "Status" in status else "nothing"
                        raise CommitmentError(f"{peer_of(destination)} answered {said} to C-FIND.")
                    if found is not None and _matches(found, instance):
                        held.add(instance.sop_instance_uid)
    except (NoAssociationError, SettingsError) as error:
        raise CommitmentError(str(error)) from error
    except (RuntimeError, ValueError) as error:
        raise CommitmentError(f"{peer_of(destination)}: the association ended: {error}.") from error
    return held


def _identifier(instance: ReceivedInstance) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    identifier.StudyInstanceUID = instance.study_instance_uid
    identifier.SeriesInstanceUID = instance.series_instance_uid
    identifier.SOPInstanceUID = instance.sop_instance_uid
    identifier.SOPClassUID = ""
    return identifier


def _matches(found: Dataset, instance: ReceivedInstance) -> bool:
    """Whether it is this very instance. Its SOP class may be left out of an answer (PS3.4 table C.6-4: optional)."""
    sop_class = found.get("SOPClassUID") or instance.sop_class_uid
    return found.get("SOPInstanceUID") == instance.sop_instance_uid and sop_class == instance.sop_class_uid
