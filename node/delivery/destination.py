"""What a destination is: takes the bytes of one object and answers, or raises why not."""

from typing import Protocol

from node.delivery.folder import FolderSender
from node.delivery.orthanc import OrthancSender
from node.delivery.parcel import Parcel
from schemas.settings import Destination, FolderDestination


class Sender(Protocol):
    """One kind of destination."""

    def send(self, parcel: Parcel) -> str:
        """Hand the object over; returns the destination's answer in words.

        Raises DeliveryError when trying again may help, DeliveryRefusedError when not.
        """
        ...


def make_sender(destination: Destination) -> Sender:
    """The sender for a destination of the settings."""
    return FolderSender(destination) if isinstance(destination, FolderDestination) else OrthancSender(destination)
