"""Store over the web (STOW-RS, PS3.18 section 10.5): the stored bytes as they are, and what the server's answer means.

Used by the destinations that speak it. The kind of error tells whether trying again can help, and whether it is the
object or the destination.
"""

import secrets

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset

from node.delivery.parcel import Parcel
from schemas.errors import DeliveryError, DeliveryRefusedError, DestinationDownError
from schemas.settings import DicomwebDestination, OrthancDestination

#: The request itself is wrong; sending the same bytes again cannot help.
REFUSED = {400, 406, 413, 415, 422}
#: Nothing is said of the object: no access, too many requests, a gateway without its server.
DOWN = {401, 403, 407, 408, 429, 502, 503, 504}
#: None of the instances was stored; the body says why (PS3.18 table 10.5.3-1).
_NONE_STORED = 409
#: Failure reasons (PS3.18 table I.2-2, PS3.4 C-STORE statuses) that the same bytes will meet again: A9xx "data set does
#: not match SOP class", Cxxx "cannot understand", 0122 "SOP class not supported".
_SOP_CLASS_NOT_SUPPORTED = 0x0122


def refused_for_good(status: int) -> bool:
    """Whether a failure status of PS3.4 table B.2-1 will come again for the same bytes."""
    return status == _SOP_CLASS_NOT_SUPPORTED or status >> 12 == 0xC or status >> 8 == 0xA9


def out_of_resources(status: int) -> bool:
    """Whether a failure status says that the peer cannot take anything at present."""
    return status >> 8 == 0xA7


def web_session(destination: OrthancDestination | DicomwebDestination) -> requests.Session:
    """A session with the destination's credentials and authorities."""
    session = requests.Session()
    if destination.username and destination.password:
        session.auth = (destination.username, destination.password.get_secret_value())
    if isinstance(destination, DicomwebDestination):
        if destination.token:
            session.headers["Authorization"] = f"Bearer {destination.token.get_secret_value()}"
        if destination.tls_authorities:
            session.verify = str(destination.tls_authorities)
    return session


def service_root(destination: OrthancDestination | DicomwebDestination) -> str:
    """What /studies comes after."""
    url = destination.url.rstrip("/")
    return f"{url}/{destination.dicomweb_root.strip('/')}" if isinstance(destination, OrthancDestination) else url


def dicomweb_client(destination: OrthancDestination | DicomwebDestination) -> DICOMwebClient:
    """A client for queries and retrieval with the destination's credentials and time limit."""
    session = web_session(destination)
    client = DICOMwebClient(service_root(destination), session=session, timeout=destination.timeout_seconds)
    # Retries are the ledger's business.
    client.set_http_retry_params(retry=False)
    return client


def store(session: requests.Session, root: str, parcel: Parcel, timeout_seconds: float) -> str:
    """Store one object; returns the server's answer in words.

    Raises DeliveryRefusedError, DestinationDownError or DeliveryError as the answer says, and requests.HTTPError for a
    status that is none of STOW-RS's.
    """
    boundary = secrets.token_hex(16)
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    try:
        response = session.post(
            f"{root}/studies",
            # The bytes as they are: to encode the data set anew may change them.
            data=head + parcel.content + f"\r\n--{boundary}--\r\n".encode(),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": "application/dicom+json",
            },
            timeout=timeout_seconds,
        )
    except requests.RequestException as error:
        raise failure(root, error) from error
    if response.status_code in REFUSED:
        raise DeliveryRefusedError(f"STOW-RS answered HTTP {response.status_code}.", said=response.text[:500])
    if response.status_code in DOWN:
        raise DestinationDownError(f"{root} answered HTTP {response.status_code}.", said=response.text[:200])
    if response.status_code != _NONE_STORED:
        response.raise_for_status()
    return check_stored(_answer_of(response), parcel)


def failure(url: str, error: requests.RequestException) -> DeliveryError:
    """What an exchange that broke off means: without a connection nothing can be said of the object."""
    down = isinstance(error, requests.ConnectTimeout | requests.exceptions.SSLError) or _never_connected(error)
    return (DestinationDownError if down else DeliveryError)(f"{url}: {type(error).__name__}.", said=error)


def _never_connected(error: requests.RequestException) -> bool:
    """Whether the connection failed, and not the exchange on it."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(error, requests.ConnectionError) and reason is not None


def _answer_of(response: requests.Response) -> Dataset:
    try:
        return Dataset.from_json(response.text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DeliveryError(f"STOW-RS answered HTTP {response.status_code}.", said=response.text[:500]) from error


def check_stored(answer: Dataset, parcel: Parcel) -> str:
    """The peer's own status for this object (PS3.18 annex I.2): referenced = stored, failed = not."""
    for item in answer.get("FailedSOPSequence") or []:
        if item.get("ReferencedSOPInstanceUID") == parcel.sop_instance_uid:
            reason = int(item.get("FailureReason", 0))
            message = f"STOW-RS answered failure reason 0x{reason:04X} for {parcel.sop_instance_uid}."
            if refused_for_good(reason):
                raise DeliveryRefusedError(message)
            raise (DestinationDownError if out_of_resources(reason) else DeliveryError)(message)
    for item in answer.get("ReferencedSOPSequence") or []:
        if item.get("ReferencedSOPInstanceUID") == parcel.sop_instance_uid:
            warning = item.get("WarningReason")
            return "stored by STOW-RS" + (f" with warning 0x{int(warning):04X}" if warning else "")
    raise DeliveryError(f"STOW-RS did not say what became of {parcel.sop_instance_uid}.")
