"""Who may associate (PS3.8 9.3.4): the titles that we are called by, the list of callers, and how many at once."""

import threading
from collections import Counter
from dataclasses import dataclass

from node.acceptor.associate import AssociateRequest
from node.monitoring.metrics import OPEN_ASSOCIATIONS
from schemas.allowed_caller import Address, parse_caller
from schemas.settings import DicomSettings

_DICOM = "1.2.840.10008.3.1.1.1"


@dataclass(frozen=True)
class Rejection:
    """A-ASSOCIATE-RJ (PS3.8 table 9-21), and what the log says about it."""

    result: int
    source: int
    reason: int
    #: Why, and what to set where the sender is to be let in.
    words: str

    @property
    def body(self) -> bytes:
        return bytes((0, self.result, self.source, self.reason))


class Admission:
    """The rules of the settings, and the count of what is open. Used by all associations of a process."""

    def __init__(self, settings: DicomSettings) -> None:
        self._settings = settings
        self._callers = [parse_caller(text) for text in settings.calling_ae_titles]
        self._open: Counter[Address] = Counter()
        self._lock = threading.Lock()

    def enter(self, request: AssociateRequest, address: Address) -> Rejection | None:
        """Why not; None when it may: it then counts as open until `leave`."""
        refused = self._identity(request, address)
        if refused is not None:
            return refused
        with self._lock:
            refused = self._crowded(address)
            if refused is None:
                self._open[address] += 1
                OPEN_ASSOCIATIONS.set(self._open.total())
        return refused

    def leave(self, address: Address) -> None:
        """An association that had entered has ended."""
        with self._lock:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]
            OPEN_ASSOCIATIONS.set(self._open.total())

    def _identity(self, request: AssociateRequest, address: Address) -> Rejection | None:
        if not request.speaks_dicom:
            return Rejection(1, 2, 2, f"it speaks upper layer protocol version {request.protocol_version:#06x}")
        if request.application_context_name != _DICOM:
            return Rejection(1, 1, 2, f"its application context is {request.application_context_name!r}")
        if request.called_ae_title not in self._settings.ae_titles:
            return Rejection(
                *(1, 1, 7),
                f"it calls {request.called_ae_title!r}; correct it there, or add the title to dicom.other_ae_titles",
            )
        title = request.calling_ae_title
        if any(caller.includes(title, address) for caller in self._callers):
            return None
        if any(caller.title == title for caller in self._callers):
            words = f"{title!r} may not call from {address}; to let it, add {f'{title}@{address}'!r}"
        else:
            words = f"{title!r} is not listed; to let it in, add {title!r} or {f'{title}@{address}'!r}"
        return Rejection(1, 1, 3, f"{words} to dicom.calling_ae_titles and restart the node")

    def _crowded(self, address: Address) -> Rejection | None:
        """Transient, of the presentation provider: local limit exceeded."""
        settings = self._settings
        if self._open.total() >= settings.maximum_associations:
            limit = f"dicom.maximum_associations ({settings.maximum_associations})"
        elif self._open[address] >= settings.maximum_associations_per_peer:
            limit = f"dicom.maximum_associations_per_peer ({settings.maximum_associations_per_peer})"
        else:
            return None
        return Rejection(2, 3, 2, f"{limit} are open; raise it where the host can bear more")
