"""The Storage Service as SCP (PS3.4 annex B): what became of an object, as the status of its C-STORE response.

An answer of success is a promise: it is given after the file and the ledger row are durable, and not before.
Nothing is decoded here.
"""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import structlog
from pydicom import Dataset
from sqlalchemy.exc import SQLAlchemyError

from node.acceptor.associate import AnsweredContext
from node.acceptor.association import Answer, Request
from node.acceptor.incoming import IncomingObject, Space
from node.acceptor.message import Sink
from node.intake.received import Reading, ReceivedFile
from node.intake.reception import ReceptionDesk
from node.monitoring.metrics import RECEIVED_BYTES, STORE_ANSWERS, STORE_SECONDS
from node.queue import ANALYSIS, Publisher
from node.storage.object_store import FolderObjectStore
from schemas.errors import ChexnodeError, IdentityError, NotDicomError, OutOfResourcesError
from schemas.settings import Settings

log = structlog.get_logger()

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
#: Error Comment is a Long String (PS3.7 table C-1).
_COMMENT_LENGTH = 64
#: The host's fault, and one that passes.
_SHORT_OF = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EACCES, errno.EPERM}


class StorageService:
    """Serves C-STORE for all associations of a process."""

    def __init__(self, settings: Settings, desk: ReceptionDesk, store: FolderObjectStore, publisher: Publisher) -> None:
        self._space = Space(store.incoming, settings.storage.minimum_free_bytes, settings.dicom.maximum_object_bytes)
        self._readers = ThreadPoolExecutor(os.cpu_count(), "reader")
        self._desk = desk
        self._publisher = publisher
        #: Studies that each open association has brought.
        self._studies: dict[int, set[str]] = {}
        self._lock = threading.Lock()

    def open_sink(self, context: AnsweredContext, command: Dataset) -> Sink:
        return IncomingObject(self._space, self._readers, context, command)

    def answer(self, request: Request) -> Answer:
        with STORE_SECONDS.time():
            answer = self._answer(request)
        STORE_ANSWERS.labels(f"0x{answer.command.Status:04X}").inc()
        return answer

    def _answer(self, request: Request) -> Answer:
        last_byte = monotonic()
        command = request.message.command
        instance = str(command.get("AffectedSOPInstanceUID", ""))
        noted = log.bind(instance=instance, calling=request.calling_ae_title)
        response = Dataset()
        response.AffectedSOPClassUID = command.get("AffectedSOPClassUID", "")
        response.AffectedSOPInstanceUID = instance
        try:
            study = self._take(request, last_byte)
        except ChexnodeError as error:
            noted.warning("not accepted", error=error)
            return _refused(response, error.dimse_status, error.detail or str(error))
        except SQLAlchemyError as error:
            noted.error("ledger does not answer; refused", error=error)
            return _refused(response, OutOfResourcesError.dimse_status, "The ledger does not answer; send again later.")
        except OSError as error:
            noted.error("not stored", error=error)
            status = OutOfResourcesError.dimse_status if error.errno in _SHORT_OF else PROCESSING_FAILURE
            return _refused(response, status, f"Storing failed: {error.strerror}.")
        except Exception as error:  # noqa: BLE001 - one object that we fail at must not take its association along
            noted.exception("not stored", error=type(error).__name__)
            return _refused(response, PROCESSING_FAILURE, f"Storing failed: {type(error).__name__}.")
        with self._lock:
            self._studies.setdefault(request.association, set()).add(study)
        self._publisher.hint(ANALYSIS)
        response.Status = SUCCESS
        return Answer(response)

    def ended(self, association: int, released: bool) -> None:
        """An association has ended. Released in order, its studies need not wait for quiet; one that broke off may go
        on in another one: the quiet time decides."""
        with self._lock:
            studies = self._studies.pop(association, set())
        if studies and released:
            try:
                self._desk.close_studies(studies)
            except SQLAlchemyError as error:
                # The quiet time closes them instead.
                log.warning("studies not closed at release", error=error)
            self._publisher.hint(ANALYSIS)

    def _take(self, request: Request, last_byte: float) -> str:
        """Keep the object; the Study Instance UID."""
        incoming = request.message.data_set
        if not isinstance(incoming, IncomingObject):
            raise NotDicomError("The request came without a data set.")
        RECEIVED_BYTES.inc(incoming.size)
        reading = incoming.complete()
        try:
            return self._take_file(reading, request, last_byte)
        except Exception:
            reading.path.unlink(missing_ok=True)
            raise

    def _take_file(self, reading: Reading, request: Request, last_byte: float) -> str:
        received = reading.finish()
        _check_request(received, request.message.command)
        self._desk.take(received, request.calling_ae_title, last_byte)
        return received.study_instance_uid


def _check_request(received: ReceivedFile, command: Dataset) -> None:
    """Raise IdentityError when the data set is another object than the request announced (PS3.4 B.2.3)."""
    if received.sop_instance_uid != command.AffectedSOPInstanceUID:
        raise IdentityError("SOP Instance UID of data set and request differ.")
    if received.sop_class_uid != command.AffectedSOPClassUID:
        raise IdentityError("SOP Class UID of data set and request differ.")


def _refused(response: Dataset, status: int, comment: str) -> Answer:
    response.Status = status
    # A backslash would part two values.
    words = comment.replace("\\", "/").encode("ascii", "replace").decode("ascii")
    response.ErrorComment = words[:_COMMENT_LENGTH].strip()
    return Answer(response)
