"""Does an Orthanc destination take, find and delete an object, and with which credentials?

By STOW-RS and QIDO-RS (PS3.18 sections 10.5 and 10.6), which delivery uses, and by C-ECHO and C-STORE (PS3.4 annexes A
and B), which it does not need.
"""

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pynetdicom import build_context
from urllib3.exceptions import NameResolutionError, NewConnectionError

from node.delivery.orthanc import OrthancSender
from node.doctor.receiver import LIMITS, echo
from node.doctor.trial_object import PATIENT_ID, as_parcel, trial_dataset
from node.doctor.verdict import Finding, Judge, Status, Subject, Verdict, failed, ok, skipped, warning
from node.network.association import NoAssociation, NoAssociationError, Peer, associated
from node.network.store_status import explain
from schemas.errors import DeliveryError, DeliveryRefusedError
from schemas.settings import OrthancDestination

_CONNECT_SECONDS = 3.0
_ANSWER_SECONDS = 10.0
_REFUSED = {401, 403}
#: DICOMweb is not served at that path.
_NO_DICOMWEB = {404, 405, 501}
_NOT_NEEDED = "results go by STOW-RS, which does not need it"


def orthanc_subject(destination: OrthancDestination, ae_title: str, *, store: bool) -> Subject:
    """Checks of an Orthanc destination; without `store` no object is stored in it.

    Parameters
    ----------
    ae_title
        Our own, as which Orthanc is called.
    """
    name = f"destination.{destination.name}"
    checks = ("rest", "qido", "stow", "find", "dicom-echo", "dicom-store", "delete")

    def examine(judge: Judge) -> Iterator[Verdict]:
        yield from _Examination(destination, ae_title).run(judge, name, store)

    return Subject(name, checks, examine, 120.0)


class _Examination:
    """One Orthanc, looked at once: what was found first decides how it goes on."""

    def __init__(self, destination: OrthancDestination, ae_title: str) -> None:
        self._destination = destination
        self._calling = ae_title
        self._url = destination.url.rstrip("/")
        self._answer_seconds = min(destination.timeout_seconds, _ANSWER_SECONDS)
        self._session = requests.Session()
        if destination.username and destination.password:
            self._session.auth = (destination.username, destination.password.get_secret_value())
        self._system: dict[str, Any] = {}
        self._dicomweb = True
        #: Test objects that may lie there now.
        self._sent: list[Dataset] = []
        self._study_instance_uid = generate_uid(prefix=None)

    def run(self, judge: Judge, name: str, store: bool) -> Iterator[Verdict]:
        rest = judge(f"{name}.rest", self._rest)
        yield rest
        if rest.status == Status.FAILED:
            return
        yield judge(f"{name}.qido", self._qido)
        if store:
            stored = judge(f"{name}.stow", self._stow)
            yield stored
            if stored.status == Status.OK:
                yield judge(f"{name}.find", self._find)
        else:
            yield judge(f"{name}.stow", lambda: skipped("left out: no test object was to be stored"))
        called = judge(f"{name}.dicom-echo", self._echo)
        yield called
        if store and called.status == Status.OK:
            yield judge(f"{name}.dicom-store", self._c_store)
        if self._sent:
            yield judge(f"{name}.delete", self._delete)

    def _rest(self) -> Finding:
        """GET /system: somebody is there, it is Orthanc, and it lets us in."""
        started = time.monotonic()
        try:
            answer = self._get(f"{self._url}/system")
        except requests.RequestException as error:
            return failed(*self._unreachable(error))
        if answer.status_code in _REFUSED:
            return self._credentials_refused(answer.status_code)
        try:
            system = answer.json() if answer.ok else None
        except requests.JSONDecodeError:
            system = None
        if not isinstance(system, dict) or "Version" not in system:
            return failed(
                f"{self._shown} answers HTTP {answer.status_code}, but not as Orthanc does",
                f"Correct url of destination {self._destination.name}: it is the root of Orthanc's REST API.",
            )
        self._system = system
        milliseconds = (time.monotonic() - started) * 1e3
        return ok(f"Orthanc {system['Version']} at {self._shown} answers in {milliseconds:.0f} ms")

    def _qido(self) -> Finding:
        """Search for Studies (PS3.18 section 10.6). What it finds are patients: only whether it answers is told."""
        try:
            answer = self._search("studies", {"limit": "1"})
        except requests.RequestException as error:
            return failed(*self._unreachable(error))
        root = f"{self._shown}/{self._destination.dicomweb_root.strip('/')}"
        if answer.status_code in _NO_DICOMWEB:
            self._dicomweb = False
            return warning(
                f"no DICOMweb at {root} (HTTP {answer.status_code}): results are uploaded by REST instead",
                "Install and enable Orthanc's DICOMweb plugin, or correct dicomweb_root of destination "
                f"{self._destination.name}; viewers need it too.",
            )
        if answer.status_code in _REFUSED:
            return self._credentials_refused(answer.status_code)
        if _objects(answer) is None:
            return failed(f"{root} answers HTTP {answer.status_code}, not as QIDO-RS does", "Look at Orthanc's log.")
        return ok(f"{root} answers searches")

    def _stow(self) -> Finding:
        """The very way of a result (PS3.18 section 10.5), with an object of no patient."""
        limited = self._destination.model_copy(update={"timeout_seconds": self._answer_seconds})
        dataset = trial_dataset(self._study_instance_uid)
        self._sent.append(dataset)
        try:
            answer = OrthancSender(limited).send(as_parcel(dataset))
        except (DeliveryError, DeliveryRefusedError) as error:
            return failed(
                "the test object was not taken", "Look at Orthanc's log: results fare likewise.", error.detail
            )
        return ok(f"the test object was {answer}")

    def _find(self) -> Finding:
        dataset = self._sent[-1]
        uid = str(dataset.SOPInstanceUID)
        try:
            if self._dicomweb:
                path = f"studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances"
                found = [each.get("00080018", {}).get("Value") for each in _objects(self._search(path)) or []]
                there = found == [[uid]]
            else:
                there = bool(self._lookup(uid))
        except requests.RequestException as error:
            return failed(*self._unreachable(error))
        if not there:
            return failed("the test object is not found", "Look at Orthanc's log: it said that it stored the object.")
        return ok(f"the test object is found by {'QIDO-RS' if self._dicomweb else 'REST'}")

    def _echo(self) -> Finding:
        try:
            status, seconds, _ = echo(self._peer)
        except NoAssociationError as error:
            return self._no_association(error)
        if status != 0:
            said = "nothing" if status is None else f"0x{status:04X}"
            return warning(f"{self._peer} answers C-ECHO with {said}; {_NOT_NEEDED}", "Look at Orthanc's log.")
        return ok(f"{self._peer} answers C-ECHO of {self._calling} in {seconds * 1e3:.0f} ms")

    def _c_store(self) -> Finding:
        dataset = trial_dataset(self._study_instance_uid)
        context = build_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
        try:
            with associated(self._peer, [context], LIMITS) as association:
                self._sent.append(dataset)
                status = association.send_c_store(dataset).get("Status")
        except NoAssociationError as error:
            return self._no_association(error)
        if status is None:
            return warning(f"{self._peer} does not answer C-STORE; {_NOT_NEEDED}", "Look at Orthanc's log.")
        meaning = explain(status)
        if status != 0:
            return warning(f"C-STORE answered 0x{status:04X}, {meaning.words}; {_NOT_NEEDED}", meaning.to_do)
        return ok(f"{self._peer} stored a test object of {self._calling} by C-STORE")

    def _delete(self) -> Finding:
        """Delete every test object over REST and look whether it is gone."""
        deleted, left, said = 0, [], ""
        for dataset in self._sent:
            uid = str(dataset.SOPInstanceUID)
            try:
                identifiers = self._lookup(uid)
                for identifier in identifiers:
                    self._session.delete(
                        f"{self._url}/instances/{identifier}", timeout=(_CONNECT_SECONDS, self._answer_seconds)
                    ).raise_for_status()
                if self._lookup(uid):
                    left.append(uid)
                deleted += bool(identifiers)
            except requests.RequestException as error:
                left.append(uid)
                said = str(error)
        if left:
            return warning(
                f"test objects may still be there: SOP Instance UID {', '.join(left)}",
                f"Delete the study {self._study_instance_uid} of patient {PATIENT_ID} there.",
                said,
            )
        return ok(f"{deleted} test {'object was' if deleted == 1 else 'objects were'} deleted again, and are gone")

    @property
    def _shown(self) -> str:
        """The URL without credentials that somebody may have put in it."""
        parts = urlsplit(self._url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @property
    def _peer(self) -> Peer:
        host = urlsplit(self._url).hostname or ""
        return Peer(host, int(self._system["DicomPort"]), str(self._system["DicomAet"]), self._calling)

    def _get(
        self, url: str, parameters: dict[str, str] | None = None, accept: str = "application/json"
    ) -> requests.Response:
        return self._session.get(
            url, params=parameters, headers={"Accept": accept}, timeout=(_CONNECT_SECONDS, self._answer_seconds)
        )

    def _search(self, path: str, parameters: dict[str, str] | None = None) -> requests.Response:
        root = self._destination.dicomweb_root.strip("/")
        return self._get(f"{self._url}/{root}/{path}", parameters, "application/dicom+json")

    def _lookup(self, sop_instance_uid: str) -> list[str]:
        """Orthanc's identifiers of the instance."""
        answer = self._session.post(
            f"{self._url}/tools/lookup", data=sop_instance_uid, timeout=(_CONNECT_SECONDS, self._answer_seconds)
        )
        answer.raise_for_status()
        return [each["ID"] for each in answer.json() if each["Type"] == "Instance"]

    def _credentials_refused(self, status: int) -> Finding:
        name = self._destination.name
        who = f"user {self._destination.username}" if self._destination.username else "a request without a user"
        return failed(
            f"{self._shown} refuses {who} (HTTP {status})",
            f"Set username and password of destination {name} to a user of Orthanc's RegisteredUsers"
            + ("; from another host it wants RemoteAccessAllowed as well." if status == 403 else "."),
        )

    def _unreachable(self, error: requests.RequestException) -> tuple[str, str, str]:
        """What was found, what to do and the error's own words where they say more."""
        start = f"nobody answers at {self._shown}"
        to_do = f"Start Orthanc, or correct url of destination {self._destination.name}; results wait until then."
        if isinstance(error, requests.ConnectTimeout):
            return f"{start} within {_CONNECT_SECONDS:g} s", to_do, ""
        if isinstance(error, requests.ReadTimeout):
            return (
                f"{self._shown} takes the connection but does not answer within {self._answer_seconds:g} s",
                "Restart what runs there, or correct url; results wait until then.",
                "",
            )
        cause = getattr(error.args[0], "reason", None) if error.args else None
        if isinstance(cause, NameResolutionError):
            return f"the host of {self._shown} is not known", to_do, ""
        if isinstance(cause, NewConnectionError) and isinstance(cause.__cause__, OSError):
            return start, to_do, str(cause.__cause__.strerror or cause.__cause__).lower()
        return start, to_do, str(error)

    def _no_association(self, error: NoAssociationError) -> Finding:
        if error.reason in (NoAssociation.UNREACHABLE, NoAssociation.UNKNOWN_HOST):
            return skipped(f"no DICOM server at {self._peer.host}:{self._peer.port} from here; {_NOT_NEEDED}")
        to_do = error.to_do
        if error.reason in (NoAssociation.CALLING_AE_TITLE, NoAssociation.NO_CONTEXT):
            to_do = f"Add {self._calling} to Orthanc's DicomModalities (with C-ECHO and C-STORE) if DIMSE is wanted."
        return warning(f"{error.detail.rstrip('.')}; {_NOT_NEEDED}", to_do)


def _objects(answer: requests.Response) -> list[dict[str, Any]] | None:
    """The objects of a QIDO-RS answer (DICOM JSON, PS3.18 annex F; 204: none); None when it is no such answer."""
    if answer.status_code == 204:
        return []
    if not answer.ok:
        return None
    try:
        found = answer.json()
    except requests.JSONDecodeError:
        return None
    return found if isinstance(found, list) else None
