"""What a destination is: takes the bytes of one object and answers, or raises why not."""

from typing import Protocol

from node.delivery.dicom import DicomSender
from node.delivery.dicomweb import DicomwebSender
from node.delivery.folder import FolderSender
from node.delivery.orthanc import OrthancSender
from node.delivery.parcel import Parcel
from schemas.settings import Destination, DicomDestination, DicomwebDestination, FolderDestination


class Sender(Protocol):
    """One kind of destination, for one thread."""

    def send(self, parcel: Parcel) -> str:
        """Hand the object over; returns the destination's answer in words.

        Raises DeliveryError when trying again may help (DestinationDownError when it was not about this object), and
        DeliveryRefusedError when not.
        """
        ...

    def close(self) -> None:
        """Give up what is held open between two objects: nothing more is due at present."""
        ...


def make_sender(destination: Destination) -> Sender:
    """The sender for a destination of the settings."""
    match destination:
        case FolderDestination():
            return FolderSender(destination)
        case DicomwebDestination():
            return DicomwebSender(destination)
        case DicomDestination():
            return DicomSender(destination)
        case _:
            return OrthancSender(destination)
