"""Delivery to any server of STOW-RS (PS3.18 section 10.5)."""

import requests

from node.delivery.parcel import Parcel
from node.delivery.stow import service_root, store, web_session
from schemas.errors import DeliveryError
from schemas.settings import DicomwebDestination


class DicomwebSender:
    """One server."""

    def __init__(self, destination: DicomwebDestination) -> None:
        self._root = service_root(destination)
        self._timeout_seconds = destination.timeout_seconds
        self._session = web_session(destination)

    def send(self, parcel: Parcel) -> str:
        """Store the object. Raises DeliveryError or DeliveryRefusedError."""
        try:
            return store(self._session, self._root, parcel, self._timeout_seconds)
        except requests.HTTPError as error:
            raise DeliveryError(f"{self._root}: {type(error).__name__}.", said=error) from error

    def close(self) -> None:
        self._session.close()
