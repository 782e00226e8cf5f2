"""Delivery to Orthanc: STOW-RS (PS3.18 section 10.5); what is Orthanc's own by orthanc-api-client.

Delivered means that Orthanc answered so for this very SOP Instance UID.
"""

from typing import Any

import requests
from orthanc_api_client import OrthancApiClient
from orthanc_api_client.exceptions import HttpError, OrthancApiException

from node.delivery.parcel import Parcel
from node.delivery.stow import REFUSED, failure, service_root, store, web_session
from schemas.errors import DeliveryError, DeliveryRefusedError
from schemas.settings import OrthancDestination

#: STOW-RS is not served here: the DICOMweb plugin is absent or elsewhere.
_NO_DICOMWEB = {404, 405, 501}


class OrthancSender:
    """One Orthanc server."""

    def __init__(self, destination: OrthancDestination) -> None:
        self._destination = destination
        self._root = service_root(destination)
        self._session = web_session(destination)
        password = destination.password.get_secret_value() if destination.password else None
        url = destination.url.rstrip("/")
        self._orthanc = TimedOrthanc(url, destination.username, password, destination.timeout_seconds)

    def send(self, parcel: Parcel) -> str:
        """Store the object; with a report also the study's urgency. Raises DeliveryError or DeliveryRefusedError."""
        try:
            answer = self._stow(parcel)
            if parcel.urgency:
                answer += f"; {self._annotate(parcel.study_instance_uid, parcel.urgency)}"
        except requests.RequestException as error:
            raise failure(self._destination.url, error) from error
        except OrthancApiException as error:
            raise DeliveryError(f"{self._destination.url}: {type(error).__name__}.", said=error) from error
        return answer

    def close(self) -> None:
        self._session.close()

    def _stow(self, parcel: Parcel) -> str:
        try:
            return store(self._session, self._root, parcel, self._destination.timeout_seconds)
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code in _NO_DICOMWEB:
                return self._upload(parcel)
            raise

    def _upload(self, parcel: Parcel) -> str:
        try:
            (orthanc_id,) = self._orthanc.upload(parcel.content)
        except HttpError as error:
            if error.http_status_code in REFUSED:
                raise DeliveryRefusedError(f"Upload answered HTTP {error.http_status_code}.", said=error) from error
            raise
        return f"uploaded as Orthanc instance {orthanc_id} (no STOW-RS there)"

    def _annotate(self, study_instance_uid: str, urgency: str) -> str:
        """Give the study a label, or string metadata where Orthanc is too old for labels (before 1.12.0)."""
        study = self._orthanc.studies.lookup(study_instance_uid)
        if study is None:
            raise DeliveryError(f"{self._destination.url} does not find the study {study_instance_uid} just stored.")
        if self._orthanc.is_orthanc_version_at_least(1, 12, 0):
            for label in self._orthanc.studies.get_labels(study):
                if label.startswith("chexnode-"):
                    self._orthanc.studies.delete_label(study, label)
            self._orthanc.studies.add_label(study, f"chexnode-{urgency}")
            return f"label chexnode-{urgency}"
        metadata = str(self._destination.urgency_metadata)
        self._orthanc.studies.set_string_metadata(study, metadata, content=urgency)
        return f"metadata {metadata} = {urgency}"


class TimedOrthanc(OrthancApiClient):  # type: ignore[misc]
    """orthanc-api-client with a time limit on every request; its own default is to wait for ever."""

    def __init__(self, url: str, username: str | None, password: str | None, timeout_seconds: float) -> None:
        super().__init__(url, username, password)
        self._timeout_seconds = timeout_seconds

    def get(self, endpoint: str, **kwargs: Any) -> requests.Response:
        response: requests.Response = super().get(endpoint, **{"timeout": self._timeout_seconds, **kwargs})
        return response

    def post(self, endpoint: str, **kwargs: Any) -> requests.Response:
        response: requests.Response = super().post(endpoint, **{"timeout": self._timeout_seconds, **kwargs})
        return response

    def put(self, endpoint: str, **kwargs: Any) -> requests.Response:
        response: requests.Response = super().put(endpoint, **{"timeout": self._timeout_seconds, **kwargs})
        return response

    def delete(self, endpoint: str, **kwargs: Any) -> requests.Response:
        response: requests.Response = super().delete(endpoint, **{"timeout": self._timeout_seconds, **kwargs})
        return response
