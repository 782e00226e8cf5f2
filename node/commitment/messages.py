"""The data sets of storage commitment (PS3.4 J.3): what is asked for, and what is reported."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from pydicom import Dataset
from pydicom.uid import UID

SOP_CLASS_UID = UID("1.2.840.10008.1.20.1")
#: The well-known instance that every request and report is about.
SOP_INSTANCE_UID = UID("1.2.840.10008.1.20.1.1")
#: Action Type ID: Request Storage Commitment.
REQUEST = 1
#: Event Type IDs: everything is committed to; failures exist.
SUCCESSFUL, FAILURES_EXIST = 1, 2

#: More instances than any study of radiographs has; an attacker's list ends here.
MOST_INSTANCES = 10_000


class FailureReason(IntEnum):
    """Why an instance is not committed to (PS3.3 C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    REFERENCED_CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION = 0x0131
    RESOURCE_LIMITATION = 0x0213


class MalformedMessageError(ValueError):
    """The data set lacks what it must have, or has what it cannot have."""


@dataclass(frozen=True)
class ReferencedInstance:
    """An instance as a request or report names it."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class NotCommitted:
    """An instance that is not committed to."""

    instance: ReferencedInstance
    #: One of FailureReason, or what else the peer has.
    reason: int

    @property
    def words(self) -> str:
        """The reason as a person reads it."""
        try:
            name = FailureReason(self.reason).name.replace("_", " ").lower()
        except ValueError:
            name = "unknown reason"
        return f"0x{self.reason:04X} ({name})"


@dataclass(frozen=True)
class Request:
    """A storage commitment request."""

    transaction_uid: str
    instances: Sequence[ReferencedInstance]


@dataclass(frozen=True)
class Report:
    """What became of a request."""

    transaction_uid: str
    committed: Sequence[ReferencedInstance]
    failed: Sequence[NotCommitted] = field(default_factory=list)

    @property
    def event_type(self) -> int:
        """Event Type ID that it goes under."""
        return FAILURES_EXIST if self.failed else SUCCESSFUL


def write_request(request: Request) -> Dataset:
    """Action Information of an N-ACTION (PS3.4 table J.3-1)."""
    dataset = Dataset()
    dataset.TransactionUID = request.transaction_uid
    dataset.ReferencedSOPSequence = [_item(each) for each in request.instances]
    return dataset


def read_request(dataset: Dataset) -> Request:
    """The other way round. Raises MalformedMessageError."""
    instances = [_instance(item) for item in _items(dataset, "ReferencedSOPSequence")]
    if not instances:
        raise MalformedMessageError("no instance is named")
    return Request(_uid(dataset, "TransactionUID"), instances)


def write_report(report: Report) -> Dataset:
    """Event Information of an N-EVENT-REPORT (PS3.4 table J.3-2)."""
    dataset = Dataset()
    dataset.TransactionUID = report.transaction_uid
    if report.committed:
        dataset.ReferencedSOPSequence = [_item(each) for each in report.committed]
    if report.failed:
        dataset.FailedSOPSequence = [_item(each.instance) for each in report.failed]
        for item, each in zip(dataset.FailedSOPSequence, report.failed, strict=True):
            item.FailureReason = each.reason
    return dataset


def read_report(dataset: Dataset) -> Report:
    """The other way round. Raises MalformedMessageError."""
    failed = [
        NotCommitted(_instance(item), int(item.get("FailureReason") or FailureReason.PROCESSING_FAILURE))
        for item in _items(dataset, "FailedSOPSequence")
    ]
    committed = [_instance(item) for item in _items(dataset, "ReferencedSOPSequence")]
    return Report(_uid(dataset, "TransactionUID"), committed, failed)


def _item(instance: ReferencedInstance) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    return item


def _instance(item: Dataset) -> ReferencedInstance:
    return ReferencedInstance(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID"))


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    items = list(dataset.get(keyword) or [])
    if len(items) > MOST_INSTANCES:
        raise MalformedMessageError(f"more than {MOST_INSTANCES} instances at a time")
    return items


def _uid(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if not isinstance(value, str) or not UID(value).is_valid:
        raise MalformedMessageError(f"{keyword} is missing or no UID")
    return str(value)
