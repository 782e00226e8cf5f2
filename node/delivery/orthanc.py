"""Delivery to Orthanc: STOW-RS (PS3.18 section 10.5) by dicomweb-client; what is Orthanc's own by orthanc-api-client.

Delivered means that Orthanc answered so for this very SOP Instance UID.
"""

from io import BytesIO
from typing import Any

import requests
import structlog
from dicomweb_client import DICOMwebClient
from orthanc_api_client import OrthancApiClient
from orthanc_api_client.exceptions import HttpError, OrthancApiException
from pydicom import Dataset, dcmread

from node.delivery.parcel import Parcel
from schemas.errors import DeliveryError, DeliveryRefusedError
from schemas.settings import OrthancDestination

log = structlog.get_logger()

#: STOW-RS is not served here: the DICOMweb plugin is absent or elsewhere.
_NO_DICOMWEB = {404, 405, 501}
#: The request itself is wrong; sending the same bytes again cannot help.
_REFUSED = {400, 406, 413, 415, 422}
#: Failure reasons (PS3.18 table I.2-2, PS3.4 C-STORE statuses) that the same bytes will meet again: A9xx "data set does
#: not match SOP class", Cxxx "cannot understand", 0122 "SOP class not supported".
_FOR_GOOD = {0x0122}


class OrthancSender:
    """One Orthanc server."""

    def __init__(self, destination: OrthancDestination) -> None:
        self._destination = destination
        password = destination.password.get_secret_value() if destination.password else None
        self._dicomweb = dicomweb_client(destination)
        url = destination.url.rstrip("/")
        self._orthanc = TimedOrthanc(url, destination.username, password, destination.timeout_seconds)

    def send(self, parcel: Parcel) -> str:
        """Store the object; with a report also the study's urgency. Raises DeliveryError or DeliveryRefusedError."""
        try:
            answer = self._stow(parcel)
            if parcel.urgency:
                answer += f"; {self._annotate(parcel.study_instance_uid, parcel.urgency)}"
        except (requests.RequestException, OrthancApiException) as error:
            raise DeliveryError(f"{self._destination.url}: {error}") from error
        return answer

    def _stow(self, parcel: Parcel) -> str:
        try:
            stored = self._dicomweb.store_instances([dcmread(BytesIO(parcel.content))])
        except requests.HTTPError as error:
            if error.response is None:
                raise
            status = error.response.status_code
            if status in _NO_DICOMWEB:
                return self._upload(parcel)
            if status == 409:
                # None of the instances was stored; the body says why (PS3.18 table 10.5.3-1).
                return check_stored(_answer_of(error.response), parcel)
            if status in _REFUSED:
                raise DeliveryRefusedError(f"STOW-RS answered HTTP {status}: {error.response.text[:500]}") from error
            raise
        return check_stored(stored, parcel)

    def _upload(self, parcel: Parcel) -> str:
        try:
            (orthanc_id,) = self._orthanc.upload(parcel.content)
        except HttpError as error:
            if error.http_status_code in _REFUSED:
                raise DeliveryRefusedError(f"Upload answered HTTP {error.http_status_code}: {error}") from error
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


def dicomweb_client(destination: OrthancDestination) -> DICOMwebClient:
    """A DICOMweb client with the destination's credentials and time limit."""
    session = requests.Session()
    if destination.username and destination.password:
        session.auth = (destination.username, destination.password.get_secret_value())
    root = f"{destination.url.rstrip('/')}/{destination.dicomweb_root.strip('/')}"
    client = DICOMwebClient(root, session=session, timeout=destination.timeout_seconds)
    # Retries are the ledger's business.
    client.set_http_retry_params(retry=False)
    return client


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


def _answer_of(response: requests.Response) -> Dataset:
    try:
        return Dataset.from_json(response.text)
    except (ValueError, TypeError, KeyError) as error:
        raise DeliveryError(f"STOW-RS answered HTTP {response.status_code}: {response.text[:500]}") from error


def check_stored(answer: Dataset, parcel: Parcel) -> str:
    """The peer's own status for this object (PS3.18 annex I.2): referenced = stored, failed = not."""
    for item in answer.get("FailedSOPSequence") or []:
        if item.get("ReferencedSOPInstanceUID") == parcel.sop_instance_uid:
            reason = int(item.get("FailureReason", 0))
            message = f"STOW-RS answered failure reason 0x{reason:04X} for {parcel.sop_instance_uid}."
            if reason in _FOR_GOOD or reason >> 12 == 0xC or reason >> 8 == 0xA9:
                raise DeliveryRefusedError(message)
            raise DeliveryError(message)
    for item in answer.get("ReferencedSOPSequence") or []:
        if item.get("ReferencedSOPInstanceUID") == parcel.sop_instance_uid:
            warning = item.get("WarningReason")
            return "stored by STOW-RS" + (f" with warning 0x{int(warning):04X}" if warning else "")
    raise DeliveryError(f"STOW-RS did not say what became of {parcel.sop_instance_uid}.")
