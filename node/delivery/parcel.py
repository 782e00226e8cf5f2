"""One result object on its way to a destination."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Parcel:
    """The stored bytes and what is known of them without reading them."""

    content: bytes
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    #: Urgency of the study when the parcel is its report, else None: what the PACS may show in its lists.
    urgency: str | None
